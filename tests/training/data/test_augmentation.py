from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.alignment import shrink
from model_core.faces.geometry import Frame
from training.data.augmentation import Augmentation

EFFECTS = ("blur", "resolution", "noise", "compression", "erase")
NOTHING: dict[str, Any] = {"flip": False} | dict.fromkeys(
    ("rotation_deg", "scale", "shift", "contrast", "brightness", "lighting", *EFFECTS), 0.0
)


@pytest.fixture(scope="module")
def crop(astronaut: Frame) -> Frame:
    return np.ascontiguousarray(astronaut[60:172, 160:272])


@given(st.sampled_from([16, 32, 56, 112]), st.integers(0, 2**32), st.booleans())
def test_shape_and_type_and_repeatability(size: int, seed: int, everything: bool) -> None:
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    before = source.copy()
    augmentation = Augmentation(**dict.fromkeys(EFFECTS, 1.0), lighting=0.5) if everything else Augmentation()
    first, second = (augmentation.apply(source, size, np.random.default_rng(seed)) for _ in range(2))
    assert (first.shape, first.dtype) == ((size, size, 3), np.uint8)
    assert np.array_equal(first, second)
    assert np.array_equal(source, before)


def test_another_generator_another_picture(crop: Frame) -> None:
    pictures = [Augmentation().apply(crop, 112, np.random.default_rng(seed)) for seed in range(3)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_nothing_at_all_is_the_crop_itself(crop: Frame) -> None:
    assert np.array_equal(Augmentation(**NOTHING).apply(crop, 112, np.random.default_rng(0)), crop)


def test_nothing_at_all_only_resizes(crop: Frame) -> None:
    # Rows and columns halve; a level or two of rounding may differ.
    small = Augmentation(**NOTHING).apply(crop, 56, np.random.default_rng(0)).astype(int)
    assert np.abs(small - shrink(crop, 56)).max() <= 2


def test_a_deformation_moves_points_by_its_deviation_and_smoothly() -> None:
    augmentation = Augmentation(**{**NOTHING, "elastic": 0.02})
    ramp = np.arange(112, dtype=np.uint8)[None, :, None].repeat(112, axis=0).repeat(3, axis=2)
    moved = [augmentation.apply(ramp, 112, np.random.default_rng(seed))[..., 0].astype(int) for seed in range(20)]
    shifts = np.stack([picture - ramp[..., 0] for picture in moved])[:, 16:-16, 16:-16]
    # At its nodes the deviation is 2 % of 112 pixels; between them it is a little lower.
    assert 1.2 < shifts.std() < 2.5
    assert np.abs(np.diff(shifts, axis=1)).max() <= 1
    grey = np.full((112, 112, 3), 100, dtype=np.uint8)
    assert (augmentation.apply(grey, 112, np.random.default_rng(0)) == 100).all()


def test_it_is_known_beforehand_what_is_mirrored(crop: Frame) -> None:
    augmentation, plain = Augmentation(**{**NOTHING, "flip": True}), shrink(crop, 112)
    for seed in range(8):
        picture = augmentation.apply(crop, 112, np.random.default_rng(seed)).astype(int)
        mirrored = augmentation.mirrors(np.random.default_rng(seed))
        assert np.abs(picture - (plain[:, ::-1] if mirrored else plain)).max() <= 2
    assert not Augmentation(**NOTHING).mirrors(np.random.default_rng(0))


@pytest.mark.parametrize("size", [112, 56])
def test_a_flip_is_the_mirror_image(crop: Frame, size: int) -> None:
    mirrored = shrink(crop, size)[:, ::-1].astype(int)
    pictures = [
        Augmentation(**{**NOTHING, "flip": True}).apply(crop, size, np.random.default_rng(seed)).astype(int)
        for seed in range(8)
    ]
    distances = [np.abs(picture - mirrored).max() for picture in pictures]
    assert min(distances) <= 2
    assert max(distances) > 50


def test_each_effect_changes_the_picture(crop: Frame) -> None:
    strengths = {"rotation_deg": 20, "scale": 0.3, "shift": 0.2, "contrast": 0.5, "brightness": 0.5, "elastic": 0.05}
    for name, strength in strengths.items():
        changed = Augmentation(**{**NOTHING, name: strength}).apply(crop, 112, np.random.default_rng(1))
        assert np.abs(changed.astype(int) - crop).mean() > 1, name
    for name in EFFECTS:
        changed = Augmentation(**{**NOTHING, name: 1.0}).apply(crop, 112, np.random.default_rng(1))
        assert not np.array_equal(changed, crop), name


def test_a_coarse_face_has_no_fine_detail() -> None:
    board = np.tile(np.kron(np.eye(2), np.ones((1, 1))) * 255, (56, 56)).astype(np.uint8)[..., None].repeat(3, axis=2)
    coarse = Augmentation(**{**NOTHING, "resolution": 1.0}).apply(board, 112, np.random.default_rng(0))
    # A face of at most 55 pixels averages the one-pixel squares to a grey.
    assert np.abs(coarse.astype(int) - 128).max() < 64


def test_light_comes_from_one_side() -> None:
    grey = np.full((112, 112, 3), 100, dtype=np.uint8)
    for seed in range(8):
        lit = Augmentation(**{**NOTHING, "lighting": 0.5}).apply(grey, 112, np.random.default_rng(seed)).astype(int)
        corners = lit[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        # Opposite corners gain and lose the same; nothing gains more than half.
        assert np.abs(corners + corners[::-1] - 200).max() <= 2
        assert 50 <= lit.min() <= lit.max() <= 150


def test_resize_averages() -> None:
    picture = np.zeros((2, 4, 3), dtype=np.uint8)[:, :2]
    picture[0, 0] = 200
    assert shrink(picture, 1).tolist() == [[[50, 50, 50]]]
    assert shrink(picture, 2) is picture


@pytest.mark.parametrize("values", [{"rotation_deg": -1}, {"blur": 1.1}, {"scale": 1.0}, {"hue": 0.1}])
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Augmentation(**values)
