"""The landmarks and the box of a face are the same from whichever detection they begin."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model_core.faces.alignment import TEMPLATES
from model_core.faces.detection import YuFaceNetwork, build_detector, scan
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point
from model_core.faces.refinement import (
    INPUT_PX,
    LandmarkRefiner,
    box_outputs,
    box_region,
    has_collapsed,
    placed_box,
    stands,
)
from tests.fakes import face_at

TEMPLATE = TEMPLATES["arcface-1"]
CENTRE = (222, 118)


@pytest.fixture(scope="module")
def refiner() -> LandmarkRefiner:
    return LandmarkRefiner()


@pytest.fixture(scope="module")
def found(astronaut: Frame) -> Face:
    [face] = scan(YuFaceNetwork(), astronaut)
    return face


def test_landmarks_do_not_depend_on_the_detection(astronaut: Frame, refiner: LandmarkRefiner, found: Face) -> None:
    reference = refiner.refine(astronaut, found)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y, log_width, log_height = rng.uniform(-0.1, 0.1, 4)
        box = Box(
            found.box.x + x * found.box.width,
            found.box.y + y * found.box.height,
            found.box.width * np.exp(log_width),
            found.box.height * np.exp(log_height),
        )
        placed = refiner.refine(astronaut, replace(found, box=box))
        assert placed.settled
        assert placed.landmarks.as_array() == pytest.approx(reference.landmarks.as_array(), abs=0.15)
        assert vars(placed.box) == pytest.approx(vars(reference.box), abs=0.5)


def test_opencv_places_a_face_where_openvino_does(
    astronaut: Frame, refiner: LandmarkRefiner, found: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    expected = refiner.refine(astronaut, found)
    placed = LandmarkRefiner().refine(astronaut, found)
    assert placed.landmarks.as_array() == pytest.approx(expected.landmarks.as_array(), abs=1e-3)
    assert vars(placed.box) == pytest.approx(vars(expected.box), abs=1e-3)
    assert placed.settled == expected.settled


def moved(face: Face, x: float) -> Face:
    landmarks = Landmarks(*(Point(px + x, py) for px, py in face.landmarks.as_array().tolist()))
    return replace(face, landmarks=landmarks, box=replace(face.box, x=face.box.x + x), confidence=0.99)


def test_a_face_stays_where_it_stood(astronaut: Frame, refiner: LandmarkRefiner, found: Face) -> None:
    placed = refiner.refine(astronaut, found)
    known = moved(placed, 0.03)
    assert refiner.refine(astronaut, found, known) == replace(known, confidence=found.confidence)


def test_a_face_that_has_moved_is_placed_anew(astronaut: Frame, refiner: LandmarkRefiner, found: Face) -> None:
    placed = refiner.refine(astronaut, found)
    again = refiner.refine(astronaut, found, moved(placed, 4.0))
    assert again.landmarks.as_array() == pytest.approx(placed.landmarks.as_array(), abs=0.2)


def test_a_face_that_stands_on_its_head_since_is_turned_again(
    astronaut: Frame, refiner: LandmarkRefiner, found: Face
) -> None:
    before = refiner.refine(astronaut, found)
    half_turn = cv2.getRotationMatrix2D(CENTRE, 180, 1.0)
    turned = cv2.warpAffine(astronaut, half_turn, astronaut.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    face = refiner.refine(np.asarray(turned, dtype=np.uint8), before, before)
    expected = before.landmarks.as_array() @ half_turn[:, :2].T + half_turn[:, 2]
    assert face.settled
    assert np.abs(face.landmarks.as_array() - expected).mean() < 2.0


def test_a_known_face_without_a_pose_is_looked_at_by_its_box(
    astronaut: Frame, refiner: LandmarkRefiner, found: Face
) -> None:
    point = Point(*CENTRE)
    placed = refiner.refine(astronaut, found, replace(found, landmarks=Landmarks(*[point] * 5)))
    assert placed.landmarks.as_array() == pytest.approx(refiner.refine(astronaut, found).landmarks.as_array(), abs=0.3)


@pytest.mark.parametrize(("size", "shift", "expected"), [(108, 0.29, True), (108, 0.31, False), (54, 0.16, False)])
def test_small_movements_count_by_the_size_of_the_face(size: float, shift: float, expected: bool) -> None:
    face = face_at(50, 50, size)
    assert stands(face, moved(face, shift)) is expected


def test_upright_faces_keep_the_detectors_geometry(astronaut: Frame, refiner: LandmarkRefiner, found: Face) -> None:
    placed = refiner.refine(astronaut, found)
    assert placed.confidence == found.confidence
    assert np.abs(placed.landmarks.as_array() - found.landmarks.as_array()).mean() < 2.5
    assert placed.box.iou(found.box) > 0.8


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_a_turned_face_gets_turned_landmarks(astronaut: Frame, refiner: LandmarkRefiner, degrees: int) -> None:
    matrix = cv2.getRotationMatrix2D(CENTRE, degrees, 1.0)
    turned = cv2.warpAffine(astronaut, matrix, astronaut.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    detector = build_detector("yuface")
    [upright] = detector.detect(astronaut)
    [face] = detector.detect(np.asarray(turned, dtype=np.uint8), max_faces=1)
    expected = upright.landmarks.as_array() @ matrix[:, :2].T + matrix[:, 2]
    assert face.settled
    assert np.abs(face.landmarks.as_array() - expected).mean() < 2.0


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_looks_at_a_turned_face_do_not_run_away(astronaut: Frame, degrees: int) -> None:
    """Of 400 x 400 pixels, in which looks at two of these faces had ended in boxes of 11 and of 1 px."""
    small = Image.fromarray(astronaut).resize((400, 400))
    turned = np.asarray(small.rotate(degrees, Image.Resampling.BICUBIC, expand=True))
    for face in build_detector("yuface").detect(np.ascontiguousarray(turned)):
        assert 60 < max(face.box.width, face.box.height) < 120  # 90 upright


@pytest.mark.parametrize(("side", "collapsed"), [(90, False), (31, False), (29, True), (1, True)])
def test_a_box_of_less_than_a_third_is_no_face(side: float, collapsed: bool) -> None:
    assert has_collapsed(face_at(0, 0, side).box, face_at(0, 0, 90).box) is collapsed


@given(
    st.tuples(*(st.floats(-200, 900),) * 2),
    st.tuples(*(st.floats(30, 300),) * 2),
    st.floats(0.4, 5),
)
@settings(max_examples=50)
def test_the_box_of_an_upright_face_comes_back(
    corner: tuple[float, float], size: tuple[float, float], scale: float
) -> None:
    points = TEMPLATE * scale + corner
    box = Box(points[0, 0] - 20 * scale, points[0, 1] - 40 * scale, 70 * scale + size[0] / 9, 90 * scale + size[1] / 9)
    assert vars(placed_box(points, box_outputs(points, box))) == pytest.approx(vars(box), rel=1e-6, abs=1e-4)


def test_the_box_of_a_face_on_its_side_lies_on_its_side() -> None:
    outputs = box_outputs(TEMPLATE, Box(20, 10, 70, 110))
    turned = TEMPLATE @ np.array([[0, 1], [-1, 0]])  # by a quarter
    box = placed_box(turned, outputs)
    assert (box.width, box.height) == pytest.approx((110, 70))


def test_a_box_lies_in_the_middle_of_its_region() -> None:
    middle = np.array([90 - 0.5, 120 - 0.5, 1.0])  # of the box, as a pixel's centre
    assert box_region(Box(40, 50, 100, 140)) @ middle == pytest.approx([(INPUT_PX - 1) / 2] * 2)


def test_a_region_without_a_face_gives_finite_places(refiner: LandmarkRefiner) -> None:
    for side in (1, 50, 200):
        placed = refiner.refine(np.full((side, side, 3), 100, np.uint8), face_at(60, 60, 80))
        assert np.isfinite(placed.landmarks.as_array()).all()
        assert np.isfinite(list(vars(placed.box).values())).all()


def test_noise_is_not_taken_for_a_face(refiner: LandmarkRefiner) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    assert not refiner.refine(noise, face_at(60, 60, 80)).settled
