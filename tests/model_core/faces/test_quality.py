from dataclasses import replace

import numpy as np
import pytest

from model_core.faces.geometry import Box, Point
from model_core.faces.pose import Pose, head_pose
from model_core.faces.quality import (
    MAX_NOISE,
    MIN_FACE_PX,
    MIN_SHARPNESS,
    Quality,
    assess,
    looks_away,
    noise,
    outside_share,
    sharpness,
)
from tests.fakes import face_at

FRAME = (600, 800)
AHEAD = Pose(0, 0, 0)


def test_a_flat_crop_has_no_sharpness() -> None:
    quality = assess(face_at(0, 0, 40.9), AHEAD, np.full((16, 16, 3), 80, dtype=np.uint8), FRAME)
    assert quality == Quality(40, 0.0, ("blurred",))
    assert not quality.reliable


def test_sharpness_by_hand() -> None:
    # Columns 0 and 10 in turn: the Laplacian is +-20 everywhere, so its variance is 400.
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = 10
    assert assess(face_at(0, 0, 100), AHEAD, crop, FRAME).sharpness == sharpness(crop) == pytest.approx(400 / 500)


def test_detail_makes_a_crop_sharper(astronaut: np.ndarray) -> None:
    sharp = astronaut[60:172, 160:272]
    smooth = np.asarray([sharp.mean(axis=(0, 1))], dtype=np.uint8).reshape(1, 1, 3).repeat(112, 0).repeat(112, 1)
    values = [assess(face_at(0, 0, 112), AHEAD, crop, FRAME).sharpness for crop in (smooth, sharp)]
    assert 0 <= values[0] < MIN_SHARPNESS < values[1] < 1


@pytest.mark.parametrize(
    ("side", "contrast", "settled", "reasons"),
    [
        (MIN_FACE_PX, 10, True, ()),
        (MIN_FACE_PX - 1, 10, True, ("small",)),
        (500, 0, True, ("blurred",)),
        (1000, 10, True, ("outside",)),
        (500, 10, False, ("turned",)),
        (MIN_FACE_PX - 1, 0, False, ("small", "blurred", "turned")),
    ],
)
def test_each_doubt_has_its_reason(side: int, contrast: int, settled: bool, reasons: tuple[str, ...]) -> None:
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = contrast
    quality = assess(replace(face_at(0, 0, side), settled=settled), AHEAD, crop, FRAME)
    assert quality.reasons == reasons
    assert quality.reliable is (not reasons)


@pytest.mark.parametrize("sigma", [5, 20, 30])
def test_noise_is_measured_in_grey_levels(sigma: float, astronaut: np.ndarray) -> None:
    shading = np.linspace(90, 160, 112)[None, :, None] * np.ones((112, 1, 3))
    grain = sigma * np.random.default_rng(1).standard_normal((112, 112, 1))
    assert noise(np.round(shading).astype(np.uint8)) < 1
    assert noise((shading + grain).round().clip(0, 255).astype(np.uint8)) == pytest.approx(sigma, rel=0.05)
    photograph = astronaut[60:172, 160:272]
    noisy = (photograph + grain).round().clip(0, 255).astype(np.uint8)
    assert noise(photograph) < MAX_NOISE / 2
    reasons = assess(face_at(0, 0, 112), AHEAD, noisy, FRAME).reasons
    assert reasons == (("noisy",) if sigma > MAX_NOISE else ())


@pytest.mark.parametrize(
    ("box", "share"),
    [
        (Box(0, 0, 800, 600), 0),
        (Box(-50, 100, 100, 100), 0.5),
        (Box(750, 550, 100, 100), 0.75),
        (Box(-10, -10, 820, 620), 1 - 800 * 600 / (820 * 620)),
        (Box(900, 0, 10, 10), 1),
        (Box(5, 5, 0, 0), 0),
    ],
)
def test_the_share_outside_by_hand(box: Box, share: float) -> None:
    assert outside_share(box, FRAME) == pytest.approx(share)


@pytest.mark.parametrize(
    ("pose", "away"),
    [
        (Pose(40, -25, 90), False),
        (Pose(41, 0, 0), True),
        (Pose(-41, 0, 0), True),
        (Pose(0, 26, 0), True),
        (Pose(0, -26, 0), True),
    ],
)
def test_faces_that_look_away(pose: Pose, away: bool) -> None:
    assert looks_away(pose) is away


def test_a_face_in_profile_is_turned() -> None:
    face = face_at(0, 0, 100)
    profile = head_pose(replace(face.landmarks, nose=Point(85, 60)))
    crop = np.zeros((16, 16, 3), dtype=np.uint8)
    crop[:, 1::2] = 10
    assert assess(face, profile, crop, FRAME).reasons == ("turned",)
