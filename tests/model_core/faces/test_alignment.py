import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATES, align, similarity_transform
from model_core.faces.geometry import Frame, Landmarks, Point

SHAPE = TEMPLATES["arcface-1"]


def landmarks_of(points: NDArray[np.float64]) -> Landmarks:
    return Landmarks(*(Point(x, y) for x, y in points.tolist()))


def posed(angle_deg: float, scale: float, centre: tuple[float, float], template: str = "arcface-1") -> Landmarks:
    """The template's points turned and scaled around their middle, which comes to lie at `centre`."""
    angle = np.radians(angle_deg)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATES[template]
    return landmarks_of((points - points.mean(axis=0)) @ turn.T + centre)


def dots(landmarks: Landmarks, index: int, radius: int, height: int = 800, width: int = 800) -> Frame:
    """A black frame with a round white dot at one landmark, centred to 1/16 pixel."""
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    x, y = (round(16 * value) for value in landmarks.as_array()[index])
    cv2.circle(frame, (x, y), 16 * radius, (255, 255, 255), thickness=-1, lineType=cv2.LINE_AA, shift=4)
    return frame


def centre_of_light(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    weight = crop[..., 0].astype(np.float64)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@given(st.floats(-180, 180), st.floats(0.05, 20), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_a_known_similarity_is_recovered(angle_deg: float, scale: float, x: float, y: float) -> None:
    angle = np.radians(angle_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = SHAPE @ linear.T + [x, y]
    expected = np.column_stack([linear, [x, y]])
    np.testing.assert_allclose(similarity_transform(SHAPE, target), expected, atol=1e-6)


def test_the_fit_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    # Unknowns a, b, x, y of [[a, -b], [b, a]] p + (x, y), by the general solver.
    rows = [[[px, -py, 1, 0], [py, px, 0, 1]] for px, py in source]
    (a, b, x, y), *_ = np.linalg.lstsq(np.array(rows).reshape(10, 4), target.reshape(10), rcond=None)
    np.testing.assert_allclose(similarity_transform(source, target), [[a, -b, x], [b, a, y]], atol=1e-12)


def test_a_mirrored_shape_is_not_reflected() -> None:
    matrix = similarity_transform(SHAPE, SHAPE * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) >= 0


@pytest.mark.parametrize("value", [7.0, float("nan"), float("inf")])
def test_landmarks_without_a_pose_are_refused(value: float) -> None:
    nowhere = landmarks_of(np.full((5, 2), value))
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="landmarks coincide"):
        align(np.zeros((20, 20, 3), dtype=np.uint8), nowhere, "arcface-1", 112)


def test_an_unknown_template_is_a_key_error(astronaut: Frame) -> None:
    with pytest.raises(KeyError, match="arcface-9"):
        align(astronaut, posed(0, 1, (200, 200)), "arcface-9", 112)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("size", [56, 112])
@pytest.mark.parametrize("index", range(5))
def test_landmarks_land_on_the_template(template: str, size: int, index: int) -> None:
    landmarks = posed(25, 1.5, (400.3, 390.8), template)
    crop = align(dots(landmarks, index, 3), landmarks, template, size)
    assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)
    target = TEMPLATES[template][index] * size / 112
    assert np.linalg.norm(centre_of_light(crop) - target) < 0.5


@pytest.mark.parametrize("scale", [3.0, 5.5])
@pytest.mark.parametrize("angle_deg", [0, -40])
@pytest.mark.parametrize("index", range(5))
def test_landmarks_of_large_faces_land_on_the_template(scale: float, angle_deg: float, index: int) -> None:
    # The crop is a third or less of the face: the picture is area-averaged first.
    landmarks = posed(angle_deg, scale, (411.4, 402.7))
    crop = align(dots(landmarks, index, 10), landmarks, "arcface-1", 112)
    assert np.linalg.norm(centre_of_light(crop) - SHAPE[index]) < 1


def test_large_faces_are_smoothed() -> None:
    # One-pixel stripes, which plain sampling would turn into a pattern of its own.
    stripes = np.zeros((800, 800, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crop = align(stripes, posed(0, 4.2, (400, 400)), "arcface-1", 112)
    assert np.abs(crop.astype(float) - 127.5).max() < 40


def test_a_face_at_the_border_sees_the_border_repeated() -> None:
    frame = np.full((100, 100, 3), 90, dtype=np.uint8)
    for scale in (0.7, 4.0):
        assert (align(frame, posed(0, scale, (0, 0)), "arcface-1", 112) == 90).all()


@pytest.mark.parametrize("angle_deg", [0, 30])
@pytest.mark.parametrize("scale", [0.7, 1, 1.9])
def test_a_face_in_a_frame_of_any_length_is_aligned_like_in_a_small_one(scale: float, angle_deg: float) -> None:
    rng = np.random.default_rng(0)
    panorama = np.zeros((400, 40_000, 3), dtype=np.uint8)
    panorama[:, 35_000:35_400] = rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    far = align(panorama, posed(angle_deg, scale, (35_200, 200)), "arcface-1", 112)
    near = align(panorama[:, 35_000:35_400].copy(), posed(angle_deg, scale, (200, 200)), "arcface-1", 112)
    assert far.std() > 40
    assert np.abs(far.astype(int) - near).max() <= 8  # coordinates are rounded to 1/32 of a pixel


def test_at_the_end_of_a_long_frame_the_edge_is_repeated() -> None:
    panorama = np.zeros((40_000, 100, 3), dtype=np.uint8)
    panorama[-1] = 200
    crop = align(panorama, posed(0, 1, (50, 40_000)), "arcface-1", 112)
    assert crop[:50].max() == 0
    assert crop[-30:].min() == 200
