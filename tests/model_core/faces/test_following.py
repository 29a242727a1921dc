import numpy as np
import pytest

from model_core.faces.detection import build_detector
from model_core.faces.detection.refined import REGION_PX
from model_core.faces.following import FollowingDetector
from model_core.faces.geometry import Frame
from tests.model_core.faces.squares import SHARES, frame, squares


def test_a_moving_face_is_followed_with_two_scans_a_second() -> None:
    network, detector = squares()
    following = FollowingDetector(detector)
    for i in range(20):
        [face] = following.detect(frame((100 + 4 * i, 50 + 2 * i, 60)), i / 10)
        assert (face.box.x, face.box.y, face.box.width) == pytest.approx((100 + 4 * i, 50 + 2 * i, 60), abs=1)
        expected = [(100 + 4 * i + 60 * u - 0.5, 50 + 2 * i + 60 * v - 0.5) for u, v in SHARES]
        assert face.landmarks.as_array() == pytest.approx(np.array(expected), abs=1)
    assert network.widths.count(640) == 4
    assert network.widths.count(REGION_PX) == 16


def test_a_still_face_stays_exactly_through_follows_and_scans(astronaut: Frame) -> None:
    following = FollowingDetector(build_detector("yuface"), scan_every_s=0.3)
    rng = np.random.default_rng(0)
    places = set()
    for i in range(8):
        noisy = np.clip(astronaut + rng.normal(0, 2, astronaut.shape), 0, 255).astype(np.uint8)
        [face] = following.detect(noisy, i / 10)
        places.add((face.landmarks, face.box))
    assert len(places) == 1


def test_a_lost_face_and_a_cut_are_looked_for_at_once() -> None:
    network, detector = squares()
    following = FollowingDetector(detector)
    following.detect(frame((100, 50, 60)), 0.0)
    [face] = following.detect(frame((400, 200, 80)), 0.1)
    assert (face.box.x, face.box.width) == (400, 80)
    assert following.detect(frame(), 0.2) == []
    assert following.detect(frame(), 0.3) == []  # nothing to follow: until the next scan, no whole frame is looked at
    where_they_were = [REGION_PX] * (1 + 2)  # one face was missed before 0.2 s, and two before 0.3 s
    assert network.widths == [640, REGION_PX, 640, REGION_PX, 640, *where_they_were]


@pytest.mark.parametrize("hidden", [3, 5, 7])
def test_one_frame_in_which_a_face_is_hidden_costs_no_other(hidden: int) -> None:
    following = FollowingDetector(squares()[1])
    empty = []
    for i in range(12):
        shown = frame() if i == hidden else frame((100, 50, 60), (400 + i, 200, 80))
        if len(following.detect(shown, i / 30)) < 2:
            empty.append(i)
    assert empty == [hidden]


def test_a_new_face_is_found_by_the_next_scan() -> None:
    following = FollowingDetector(squares()[1])
    one, two = ((100, 50, 60),), ((100, 50, 60), (400, 200, 80))
    counts = [len(following.detect(frame(*(one if i == 0 else two)), i / 10)) for i in range(7)]
    assert counts == [1, 1, 1, 1, 1, 2, 2]


def test_two_faces_stay_two_and_come_by_area() -> None:
    following = FollowingDetector(squares()[1])
    for i in range(10):
        faces = following.detect(frame((50 + 3 * i, 40, 60), (400 - 3 * i, 200, 62 + 2 * i)), i / 10)
        assert [round(face.box.x) for face in faces] == pytest.approx([400 - 3 * i, 50 + 3 * i], abs=1)


def test_faces_that_meet_are_scanned() -> None:
    network, detector = squares()
    following = FollowingDetector(detector)
    following.detect(frame((100, 50, 60), (180, 50, 60)), 0.0)
    assert len(following.detect(frame((110, 50, 60), (170, 50, 60)), 0.1)) == 1  # they touch: one shape
    assert network.widths[-1] == 640


def test_a_face_over_the_border_and_sparse_frames() -> None:
    network, detector = squares()
    following = FollowingDetector(detector)
    for i in range(5):
        [face] = following.detect(frame((0, 300, 60)), float(i))
        assert face.box.y == 300
    assert network.widths == [640] * 5  # a second apart: each is scanned
    [face] = following.detect(frame((0, 300, 60)), 4.1)
    assert (face.box.x, face.box.y) == pytest.approx((0, 300), abs=1)


def test_every_frame_is_scanned_where_that_is_asked_for() -> None:
    network, detector = squares()
    following = FollowingDetector(detector, scan_every_s=0)
    for i in range(5):
        following.detect(frame((100, 50, 60)), i / 30)
    assert network.widths == [640] * 5


def test_a_crowd_is_scanned_since_that_costs_less() -> None:
    # 25 regions of 96 x 96 have as many pixels as the frame, 230,400; 26 have more.
    for count, followed in ((25, 25), (26, 0)):
        network, detector = squares()
        following = FollowingDetector(detector)
        crowd = [(20 + 66 * (i % 9), 40 + 100 * (i // 9), 40) for i in range(count)]
        for time_s in (0.0, 0.1):
            assert len(following.detect(frame(*crowd), time_s, max_faces=64)) == count
        assert network.widths.count(REGION_PX) == followed


def test_a_face_that_a_scan_misses_is_looked_for_where_it_was() -> None:
    network, detector = squares()
    following = FollowingDetector(detector)
    small_and_large = frame((100, 50, 20), (400, 200, 80))
    assert len(following.detect(small_and_large, 0.0)) == 2
    network.least_px = 30  # from now on, a scan shows no face below 30 pixels
    for i in range(1, 12):
        faces = following.detect(small_and_large, i / 10)
        assert [round(face.box.width) for face in faces] == [80, 20]


def test_every_fourth_scan_is_thorough() -> None:
    large = np.zeros((1080, 1920, 3), np.uint8)
    large[500:540, 900:940] = 255
    network, detector = squares()
    following = FollowingDetector(detector)
    for i in range(41):
        [face] = following.detect(large, i / 10)
        assert face.box.x == pytest.approx(900, abs=2)
    assert (network.widths.count(640), network.widths.count(1920)) == (9, 3)
    following.reset()
    following.detect(large, 4.1)
    assert (network.widths.count(640), network.widths.count(1920)) == (10, 4)
