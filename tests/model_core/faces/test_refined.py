"""The composition of a network that finds faces and a refiner that places them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.detection import RefinedDetector, build_detector, family
from model_core.faces.geometry import Box, Face, Frame
from tests.fakes import face_at
from tests.model_core.faces.squares import SquareNetwork, frame, squares


class ShrinkingRefiner:
    """Halves the box of each face around its middle."""

    def refine(self, frame: Frame, face: Face, before: Face | None = None) -> Face:
        box = face.box
        half = Box(box.x + box.width / 4, box.y + box.height / 4, box.width / 2, box.height / 2)
        return replace(face, box=half)


def test_found_and_followed_faces_are_refined() -> None:
    detector = RefinedDetector(SquareNetwork(), ShrinkingRefiner())
    picture = frame((100, 100, 80))
    [face] = detector.detect(picture)
    assert face.box == Box(120, 120, 40, 40)
    followed = detector.follow(picture, face_at(104, 98, 80))
    assert followed is not None
    assert vars(followed.box) == pytest.approx(vars(face.box), abs=1.5)


class GrowingRefiner:
    """Makes a face the larger, the farther it is to the right."""

    def refine(self, frame: Frame, face: Face, before: Face | None = None) -> Face:
        box, factor = face.box, 1 + face.box.x / 640
        return replace(face, box=Box(box.x, box.y, factor * box.width, factor * box.height))


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 7), st.integers(16, 24)), max_size=24), st.integers(1, 8))
def test_the_largest_faces_are_those_of_all(places: list[tuple[int, int, int]], count: int) -> None:
    detector = RefinedDetector(SquareNetwork(), GrowingRefiner())
    picture = frame(*((40 * x, 40 * y, side) for x, y, side in places))
    found = detector.detect(picture)
    [*areas] = [face.box.area for face in found]
    assert areas == sorted(areas, reverse=True)
    expected = {face.box for face in found[:count]}
    if len(found) <= 2 * count + 4:
        assert {face.box for face in detector.detect(picture, max_faces=count)} == expected


def test_a_face_elsewhere_is_not_followed() -> None:
    _, detector = squares()
    assert detector.follow(frame((400, 200, 80)), face_at(100, 50, 80)) is None
    assert detector.follow(frame((400, 200, 80)), face_at(-900, 50, 80)) is None


def test_the_nearer_of_two_faces_is_followed() -> None:
    _, detector = squares()
    face = detector.follow(frame((100, 50, 60), (170, 50, 60)), face_at(110, 50, 60))
    assert face is not None
    assert face.box.x == pytest.approx(100, abs=1)


def large(*faces: tuple[int, int, int]) -> Frame:
    picture = np.zeros((1500, 3000, 3), np.uint8)
    for x, y, side in faces:
        picture[y : y + side, x : x + side] = 255
    return picture


def test_small_faces_are_looked_for_where_no_face_is_large() -> None:
    network, detector = squares()
    network.least_px = 20
    assert len(detector.detect(large((500, 500, 40), (900, 500, 40)))) == 2
    assert network.widths == [640, 2000]
    # Of a face that the first scan finds too, there is one.
    assert len(detector.detect(large((500, 500, 40), (900, 500, 100)))) == 2
    assert network.widths == [640, 2000] * 2


def test_behind_a_large_face_no_small_one_is_looked_for() -> None:
    network, detector = squares()
    network.least_px = 20
    assert len(detector.detect(large((500, 500, 40), (900, 500, 121)))) == 1
    assert network.widths == [640]


def test_small_faces_are_found_only_by_a_thorough_search() -> None:
    network, detector = squares()
    network.least_px = 20
    assert detector.detect(large((500, 500, 40)), thorough=False) == []
    assert network.widths == [640]


def test_a_frame_of_scan_size_is_scanned_once() -> None:
    network, detector = squares()
    assert detector.detect(frame()) == []
    assert network.widths == [640]


def test_twelve_small_faces_are_found_in_a_large_photo(astronaut: Frame) -> None:
    photo = np.full((3000, 4000, 3), 128, np.uint8)
    face = cv2.resize(astronaut[:256, 90:346], None, fx=40 / 89, fy=40 / 89, interpolation=cv2.INTER_AREA)
    for number in range(12):
        x, y = 300 + 1000 * (number % 4), 400 + 1000 * (number // 4)
        photo[y : y + len(face), x : x + face.shape[1]] = face
    faces = build_detector("yuface").detect(photo, max_faces=64)
    assert len(faces) == 12
    assert all(30 < face.box.width < 50 for face in faces)


def test_the_name_tells_network_and_geometry() -> None:
    _, detector = squares()
    assert detector.name == "squares-1+refined-1"
    assert family(detector.name) == "squares"
