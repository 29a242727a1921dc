import numpy as np
import pytest

from model_core.faces.geometry import Box
from model_core.faces.quality import MIN_FACE_PX, MIN_SHARPNESS, Quality, assess, sharpness


def test_a_flat_crop_has_no_sharpness() -> None:
    quality = assess(Box(0, 0, 40.9, 55), np.full((16, 16, 3), 80, dtype=np.uint8))
    assert quality == Quality(40, 0.0)
    assert not quality.reliable


def test_sharpness_by_hand() -> None:
    # Columns 0 and 10 in turn: the Laplacian is +-20 everywhere, so its variance is 400.
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = 10
    assert assess(Box(0, 0, 100, 100), crop).sharpness == sharpness(crop) == pytest.approx(400 / 500)


def test_detail_makes_a_crop_sharper(astronaut: np.ndarray) -> None:
    sharp = astronaut[60:172, 160:272]
    smooth = np.asarray([sharp.mean(axis=(0, 1))], dtype=np.uint8).reshape(1, 1, 3).repeat(112, 0).repeat(112, 1)
    box = Box(0, 0, 112, 112)
    values = [assess(box, crop).sharpness for crop in (smooth, sharp)]
    assert 0 <= values[0] < MIN_SHARPNESS < values[1] < 1


@pytest.mark.parametrize(
    ("quality", "reliable"),
    [
        (Quality(MIN_FACE_PX, MIN_SHARPNESS), True),
        (Quality(MIN_FACE_PX - 1, 0.9), False),
        (Quality(500, MIN_SHARPNESS / 2), False),
    ],
)
def test_reliable_needs_size_and_sharpness(quality: Quality, reliable: bool) -> None:
    assert quality.reliable is reliable
