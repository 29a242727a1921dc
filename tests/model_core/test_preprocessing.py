import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_core.preprocessing import (
    BLENDED,
    InputSpec,
    oriented,
    own_weights,
    readings,
    to_batch,
    weighted_answers,
)

RGB = InputSpec(2, "rgb", (0.5, 0.4, 0.0), (0.5, 0.2, 1.0), "arcface-1")
GREY = InputSpec(2, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1")


def one_pixel_set(r: int, g: int, b: int) -> np.ndarray:
    crop = np.zeros((2, 2, 3), dtype=np.uint8)
    crop[0, 1] = (r, g, b)
    return crop


def test_rgb_values_by_hand() -> None:
    batch = to_batch([one_pixel_set(255, 51, 102)], RGB)
    assert (batch.shape, batch.dtype) == ((1, 3, 2, 2), np.float32)
    # (1 - .5) / .5, (.2 - .4) / .2, (.4 - 0) / 1, at row 0, column 1; black elsewhere.
    expected = np.array([[[[-1, 1], [-1, -1]], [[-2, -1], [-2, -2]], [[0, 0.4], [0, 0]]]])
    assert batch == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("channel", "luminance"), [(0, 76), (1, 150), (2, 29)])
def test_grey_is_luminance_in_all_channels(channel: int, luminance: int) -> None:
    # BT.601: .299 R + .587 G + .114 B, rounded.
    colour = [0, 0, 0]
    colour[channel] = 255
    batch = to_batch([one_pixel_set(*colour)], GREY)
    expected = np.tile([[-2, 4 * (luminance / 255 - 0.5)], [-2, -2]], (1, 3, 1, 1))
    assert batch == pytest.approx(expected, abs=1e-6)


def test_channels_are_innermost_in_memory() -> None:
    batch = to_batch([one_pixel_set(1, 2, 3)], RGB)
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous


def test_order_is_kept() -> None:
    batch = to_batch([np.full((2, 2, 3), value, dtype=np.uint8) for value in (0, 255, 51)], GREY)
    assert batch[:, 0, 0, 0].tolist() == pytest.approx([-2, 2, -1.2])


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((3, 3, 3), np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.float32),
    ],
    ids=["oblong", "larger", "no channels", "alpha", "float"],
)
@pytest.mark.parametrize("spec", [RGB, GREY], ids=["rgb", "grey"])
def test_another_shape_is_refused(crop: np.ndarray, spec: InputSpec) -> None:
    with pytest.raises(ValueError, match=re.escape(f"crop is {crop.dtype} {crop.shape}")):
        to_batch([np.zeros((2, 2, 3), np.uint8), crop], spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "must be positive"),
        ({"std": (0.2, 0.0, 0.2)}, "must be positive"),
        ({"colour": "bgr"}, "unknown colour 'bgr'"),
        ({"alignment": "none"}, "unknown alignment 'none'"),
    ],
)
def test_an_impossible_contract_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputSpec(**{**vars(RGB), **change})


ORIENTED = replace(GREY, size=4, oriented=True)


def halves(left: float, right: float) -> np.ndarray:
    """An image [1, 3, 4, 4] of two halves."""
    return np.broadcast_to(np.float32([left, left, right, right]), (1, 3, 4, 4))


def test_the_orientation_with_the_brighter_half_on_the_left_is_read_alone() -> None:
    images = np.concatenate([halves(1, -1), halves(-1, 1), halves(0.5, 0.5)])
    assert own_weights(images, ORIENTED).tolist() == [1, 0, 0.5]
    assert own_weights(images, replace(GREY, size=4, with_mirror_image=True)).tolist() == [0.5] * 3
    assert own_weights(images, GREY).tolist() == [1] * 3
    assert (oriented(images) == np.concatenate([halves(1, -1), halves(1, -1), halves(0.5, 0.5)])).all()
    shown = readings(images, own_weights(images, ORIENTED))
    # The first, the third, and the mirror images of the second and third.
    assert (shown == np.concatenate([halves(1, -1), halves(0.5, 0.5), halves(1, -1), halves(0.5, 0.5)])).all()


def test_weighted_answers_by_hand() -> None:
    # One face is read as it is (10), one as its mirror image (40), one both ways (20 and 60, by 3/4 and 1/4).
    outputs = np.array([[10.0], [20.0], [40.0], [60.0]])
    assert weighted_answers(outputs, np.float32([1, 0, 0.75])).tolist() == [[10], [40], [30]]


images_of_any_kind = arrays.arrays(np.float32, (2, 3, 4, 4), elements=st.floats(-2, 2, width=16))


@given(images_of_any_kind)
def test_an_image_and_its_mirror_image_share_one_answer(images: np.ndarray) -> None:
    own, other = own_weights(images, ORIENTED), own_weights(images[..., ::-1], ORIENTED)
    assert ((own >= 0) & (own <= 1)).all()
    assert own + other == pytest.approx(1, abs=1e-5)


@given(images_of_any_kind)
def test_oriented_images_stay_so(images: np.ndarray) -> None:
    turned = oriented(images)
    assert (oriented(turned) == turned).all()
    assert (own_weights(turned, ORIENTED) >= 0.5).all()


def test_weights_change_smoothly_where_both_halves_are_about_as_bright() -> None:
    # A step of 1 % of the range in which both are averaged moves the weight by 1.5 % at most (smoothstep's slope).
    noise = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    symmetric = noise + noise[..., ::-1]
    ramp = np.linspace(1, -1, 64, dtype=np.float32) * symmetric.std()
    differences = np.linspace(-2, 2, 401, dtype=np.float32)[:, None, None, None] * BLENDED
    weights = own_weights(symmetric + differences * ramp, replace(ORIENTED, size=64))
    assert (weights[0], weights[-1]) == (0, 1)
    assert (np.diff(weights) >= 0).all()
    assert np.diff(weights).max() < 0.015


def test_a_face_is_not_both_oriented_and_averaged() -> None:
    with pytest.raises(ValueError, match="either read with its mirror image, or oriented"):
        replace(ORIENTED, with_mirror_image=True)
