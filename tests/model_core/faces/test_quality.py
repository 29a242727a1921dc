from dataclasses import replace

import numpy as np
import pytest

from model_core.faces.quality import MIN_FACE_PX, MIN_SHARPNESS, Quality, assess, sharpness
from tests.fakes import face_at


def test_a_flat_crop_has_no_sharpness() -> None:
    quality = assess(face_at(0, 0, 40.9), np.full((16, 16, 3), 80, dtype=np.uint8))
    assert quality == Quality(40, 0.0, ("blurred",))
    assert not quality.reliable


def test_sharpness_by_hand() -> None:
    # Columns 0 and 10 in turn: the Laplacian is +-20 everywhere, so its variance is 400.
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = 10
    assert assess(face_at(0, 0, 100), crop).sharpness == sharpness(crop) == pytest.approx(400 / 500)


def test_detail_makes_a_crop_sharper(astronaut: np.ndarray) -> None:
    sharp = astronaut[60:172, 160:272]
    smooth = np.asarray([sharp.mean(axis=(0, 1))], dtype=np.uint8).reshape(1, 1, 3).repeat(112, 0).repeat(112, 1)
    values = [assess(face_at(0, 0, 112), crop).sharpness for crop in (smooth, sharp)]
    assert 0 <= values[0] < MIN_SHARPNESS < values[1] < 1


@pytest.mark.parametrize(
    ("side", "contrast", "settled", "reasons"),
    [
        (MIN_FACE_PX, 10, True, ()),
        (MIN_FACE_PX - 1, 10, True, ("small",)),
        (500, 0, True, ("blurred",)),
        (500, 10, False, ("turned",)),
        (MIN_FACE_PX - 1, 0, False, ("small", "blurred", "turned")),
    ],
)
def test_each_doubt_has_its_reason(side: int, contrast: int, settled: bool, reasons: tuple[str, ...]) -> None:
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = contrast
    quality = assess(replace(face_at(0, 0, side), settled=settled), crop)
    assert quality.reasons == reasons
    assert quality.reliable is (not reasons)
