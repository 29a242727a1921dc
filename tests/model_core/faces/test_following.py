import cv2
import numpy as np
import pytest

from model_core.faces.following import FollowingDetector
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point

SHARES = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


class SquareDetector:
    """Finds bright rectangles, and notes the size of each picture it was given."""

    name = "squares-1"

    def __init__(self) -> None:
        self.widths: list[int] = []

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        self.widths.append(frame.shape[1])
        _, _, boxes, _ = cv2.connectedComponentsWithStats((frame[..., 0] > 127).astype(np.uint8))
        faces = [_face(*map(float, box[:4])) for box in boxes[1:]]
        return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(x: float, y: float, width: float, height: float) -> Face:
    points = (Point(x + u * width - 0.5, y + v * height - 0.5) for u, v in SHARES)
    return Face(Box(x, y, width, height), Landmarks(*points), 0.9)


def frame(*squares: tuple[int, int, int]) -> Frame:
    picture = np.zeros((360, 640, 3), np.uint8)
    for x, y, side in squares:
        picture[y : y + side, x : x + side] = 255
    return picture


def test_a_moving_face_is_followed_with_two_scans_a_second() -> None:
    detector = SquareDetector()
    following = FollowingDetector(detector)
    for i in range(20):
        [face] = following.detect(frame((100 + 4 * i, 50 + 2 * i, 60)), i / 10)
        assert (face.box.x, face.box.y, face.box.width) == pytest.approx((100 + 4 * i, 50 + 2 * i, 60), abs=1)
        expected = [(100 + 4 * i + 60 * u - 0.5, 50 + 2 * i + 60 * v - 0.5) for u, v in SHARES]
        assert face.landmarks.as_array() == pytest.approx(np.array(expected), abs=1)
    assert detector.widths.count(640) == 4
    assert detector.widths.count(192) == 16


def test_a_lost_face_and_a_cut_are_looked_for_at_once() -> None:
    detector = SquareDetector()
    following = FollowingDetector(detector)
    following.detect(frame((100, 50, 60)), 0.0)
    [face] = following.detect(frame((400, 200, 80)), 0.1)
    assert (face.box.x, face.box.width) == (400, 80)
    assert following.detect(frame(), 0.2) == []
    assert following.detect(frame(), 0.3) == []  # nothing to follow: until the next scan, nothing is looked for
    assert detector.widths == [640, 192, 640, 192, 640]


def test_a_new_face_is_found_by_the_next_scan() -> None:
    following = FollowingDetector(SquareDetector())
    one, two = ((100, 50, 60),), ((100, 50, 60), (400, 200, 80))
    counts = [len(following.detect(frame(*(one if i == 0 else two)), i / 10)) for i in range(7)]
    assert counts == [1, 1, 1, 1, 1, 2, 2]


def test_two_faces_stay_two_and_come_by_area() -> None:
    following = FollowingDetector(SquareDetector())
    for i in range(10):
        faces = following.detect(frame((50 + 3 * i, 40, 60), (400 - 3 * i, 200, 62 + 2 * i)), i / 10)
        assert [round(face.box.x) for face in faces] == pytest.approx([400 - 3 * i, 50 + 3 * i], abs=1)


def test_faces_that_meet_are_scanned() -> None:
    detector = SquareDetector()
    following = FollowingDetector(detector)
    following.detect(frame((100, 50, 60), (180, 50, 60)), 0.0)
    assert len(following.detect(frame((110, 50, 60), (170, 50, 60)), 0.1)) == 1  # they touch: one shape
    assert detector.widths[-1] == 640


def test_a_face_over_the_border_and_sparse_frames() -> None:
    detector = SquareDetector()
    following = FollowingDetector(detector)
    for i in range(5):
        [face] = following.detect(frame((0, 300, 60)), float(i))
        assert face.box.y == 300
    assert detector.widths == [640] * 5  # a second apart: each is scanned
    [face] = following.detect(frame((0, 300, 60)), 4.1)
    assert (face.box.x, face.box.y) == pytest.approx((0, 300), abs=1)


def test_every_frame_is_scanned_where_that_is_asked_for() -> None:
    detector = SquareDetector()
    following = FollowingDetector(detector, scan_every_s=0)
    for i in range(5):
        following.detect(frame((100, 50, 60)), i / 30)
    assert detector.widths == [640] * 5


def test_a_crowd_is_scanned_since_that_costs_less() -> None:
    # Six regions of 192 x 192 have 221,184 pixels, the frame 230,400; seven have more.
    for count, followed in ((6, 6), (7, 0)):
        detector = SquareDetector()
        following = FollowingDetector(detector)
        squares = [(20 + 85 * i, 100, 40) for i in range(count)]
        for time_s in (0.0, 0.1):
            assert len(following.detect(frame(*squares), time_s)) == count
        assert detector.widths.count(192) == followed
