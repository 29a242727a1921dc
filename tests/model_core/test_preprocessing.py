import re

import numpy as np
import pytest

from model_core.preprocessing import InputSpec, to_batch

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
