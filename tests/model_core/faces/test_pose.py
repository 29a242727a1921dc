"""Poses of five points that a person can draw, and of pictures that are mirrored and turned."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.geometry import Frame, Landmarks, Point
from model_core.faces.pose import INCLUDED, Pose, head_pose, pose_of, upright_face

ORIGIN = (80.0, 60.0)
NOSE = 2
MIRRORED = [1, 0, 2, 4, 3]

angles = st.floats(-80, 80)
poses = st.builds(Pose, angles, angles, st.floats(-170, 170))


def drawn(nose: tuple[float, float] = (0, 21)) -> np.ndarray:
    """Landmarks, [5, 2]: eyes 36 pixels apart, a mouth 29 pixels wide 39 below them, and a nose relative to them."""
    return np.array([(-18, 0), (18, 0), nose, (-14.5, 39), (14.5, 39)], dtype=np.float64) + ORIGIN


def landmarks(points: np.ndarray) -> Landmarks:
    return Landmarks(*(Point(x, y) for x, y in points.tolist()))


def turned(points: np.ndarray, clockwise_deg: float) -> np.ndarray:
    angle = np.radians(clockwise_deg)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def test_a_symmetric_face_looks_straight_ahead() -> None:
    pose = head_pose(landmarks(drawn()))
    assert pose.yaw == pytest.approx(0, abs=1e-9)
    assert pose.roll == pytest.approx(0, abs=1e-9)
    assert abs(pose.pitch) < 5


def test_a_face_looks_where_its_nose_points() -> None:
    right, left, up = (head_pose(landmarks(drawn(nose))) for nose in ((6, 21), (-6, 21), (0, 19)))
    assert 12 < right.yaw < 22
    assert left.yaw == pytest.approx(-right.yaw)
    assert up.pitch > head_pose(landmarks(drawn())).pitch + 5


def test_measures_by_hand() -> None:
    # The face is as large as the template's, so pixels count as they are, and turned by 90 degrees.
    upright = upright_face(landmarks(turned(drawn(), 90)))
    scale = upright.mouth_width / 29
    assert scale == pytest.approx(1, abs=0.03)
    assert upright.turned == pytest.approx(np.pi / 2)
    assert upright.nose_across == pytest.approx(0, abs=1e-9)
    assert upright.nose_down == pytest.approx(21 * scale)
    assert upright.mouth_down == pytest.approx(39 * scale)
    expected = INCLUDED.pitch @ [1, 21 * scale, 39 * scale, 29 * scale]
    assert head_pose(landmarks(drawn())).pitch == pytest.approx(expected)


@given(st.floats(-170, 170), st.floats(-12, 12), st.floats(15, 27))
def test_turning_the_picture_turns_the_pose(angle: float, across: float, down: float) -> None:
    points = drawn((across, down))
    pose = head_pose(landmarks(turned(points, angle)))
    expected = Pose(0, 0, angle).matrix() @ head_pose(landmarks(points)).matrix()
    assert pose.matrix() == pytest.approx(expected, abs=1e-9)


@given(st.floats(-170, 170), st.floats(-12, 12), st.floats(15, 27), st.floats(0.1, 10))
def test_mirroring_and_enlarging(angle: float, across: float, down: float, scale: float) -> None:
    points = turned(drawn((across, down)), angle)
    pose = head_pose(landmarks(points))
    mirrored = head_pose(landmarks(points[MIRRORED] * [-scale, scale] + 7))
    assert mirrored.matrix() == pytest.approx(Pose(-pose.yaw, pose.pitch, -pose.roll).matrix(), abs=1e-9)


@given(poses)
def test_a_rotation_gives_its_pose_back(pose: Pose) -> None:
    rotation = pose.matrix()
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert pose_of(rotation) == pytest.approx(pose, abs=1e-6)


def test_axes_of_a_pose() -> None:
    # Towards the camera, up, and to the picture's right.
    assert Pose(90, 0, 0).matrix() @ [0, 0, 1] == pytest.approx(np.array([1, 0, 0]), abs=1e-12)
    assert Pose(0, 90, 0).matrix() @ [0, 0, 1] == pytest.approx(np.array([0, 1, 0]), abs=1e-12)
    assert Pose(0, 0, 90).matrix() @ [0, 1, 0] == pytest.approx(np.array([1, 0, 0]), abs=1e-12)


def test_coinciding_landmarks_have_no_pose() -> None:
    with pytest.raises(ValueError, match="coincide"):
        head_pose(landmarks(np.full((5, 2), 3.0)))


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return build_detector("yuface")


def pose_in(frame: Frame, detector: FaceDetector) -> Pose:
    [face] = detector.detect(frame, max_faces=1)
    return head_pose(face.landmarks)


def test_a_photograph_its_mirror_image_and_turned(astronaut: Frame, detector: FaceDetector) -> None:
    pose = pose_in(astronaut, detector)
    assert abs(pose.yaw) < 20
    assert abs(pose.pitch) < 15
    mirrored = pose_in(np.ascontiguousarray(astronaut[:, ::-1]), detector)
    assert mirrored.yaw == pytest.approx(-pose.yaw, abs=3)
    assert mirrored.roll == pytest.approx(-pose.roll, abs=2)
    middle = (225.0, 115.0)
    clockwise = cv2.getRotationMatrix2D(middle, -15, 1)  # OpenCV counts anticlockwise
    tilted = np.asarray(cv2.warpAffine(astronaut, clockwise, (512, 512)), dtype=np.uint8)
    expected = pose_of(Pose(0, 0, 15).matrix() @ pose.matrix())
    assert pose_in(tilted, detector) == pytest.approx(expected, abs=3)
