import cv2
import numpy as np
import pytest

from model_core.faces.alignment import TEMPLATES
from training.data.perturbations import STRENGTHS, perturbations

REGISTRY = perturbations("arcface-1")


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """uint8 [112, 112, 3]: soft structure in every place, as in a face, and colours well inside the range."""
    noise = np.random.default_rng(4).uniform(0, 255, (112, 112, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    soft = (soft - soft.mean()) / soft.std() * 40 + 110
    crop = soft.clip(0, 255).astype(np.uint8)
    crop.flags.writeable = False
    return crop


def change(crop: np.ndarray, name: str, strength: int, seed: int = 3) -> np.ndarray:
    return REGISTRY[name](crop, strength, np.random.default_rng(seed))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("name", REGISTRY)
def test_each_is_pure_and_grows(crop: np.ndarray, name: str) -> None:
    before = crop.copy()
    changed = [change(crop, name, strength) for strength in STRENGTHS]
    for image in changed:
        assert (image.shape, image.dtype) == (crop.shape, np.uint8)
    assert np.array_equal(crop, before)
    assert np.array_equal(change(crop, name, 3), changed[2])
    assert distance(crop, changed[0]) < distance(crop, changed[4])


@pytest.mark.parametrize("strength", [0, 6])
def test_other_strengths_are_refused(crop: np.ndarray, strength: int) -> None:
    with pytest.raises(ValueError, match=f"a strength is 1 to 5, not {strength}"):
        change(crop, "blur", strength)


def test_chance_is_the_generators(crop: np.ndarray) -> None:
    for name in ("noise", "occlusion_random", "shift"):
        assert not np.array_equal(change(crop, name, 3, seed=1), change(crop, name, 3, seed=2)), name


def test_pixel_values_by_hand() -> None:
    flat = np.full((4, 4, 3), 100, np.uint8)
    assert (change(flat, "darker", 5) == 20).all()
    assert (change(flat, "brighter", 5) == 250).all()
    assert (change(flat + 100, "brighter", 5) == 255).all()
    assert (change(flat, "contrast", 2) == 111).all()  # 128 - 0.6 * 28 = 111.2
    assert change(flat, "colour_cast", 5)[0, 0].tolist() == [150, 100, 50]


def test_noise_is_as_strong_as_it_says_and_the_same_in_all_channels() -> None:
    flat = np.full((112, 112, 3), 128, np.uint8)
    noise = change(flat, "noise", 2).astype(float) - 128
    assert noise.std() == pytest.approx(10, rel=0.05)
    assert (noise == noise[..., :1]).all()


def test_resolution_is_the_faces() -> None:
    # The eyes are 35.24 px of 112 apart, a box 2.3 times as wide: 72 % of the crop. So 16 px of face are 22 of crop,
    # and columns in turn of 4 px, 28 of them, are no longer seen while those of 14 px are.
    columns = (np.arange(112) // 14 % 2 * 200).astype(np.uint8)
    coarse = np.broadcast_to(columns[None, :, None], (112, 112, 3))
    assert np.abs(change(coarse, "resolution", 5)[:, 7::14].astype(int) - coarse[:, 7::14]).max() < 30
    fine = np.broadcast_to((np.arange(112) // 2 % 2 * 200).astype(np.uint8)[None, :, None], (112, 112, 3))
    assert change(fine, "resolution", 5).std() < 20 < change(fine, "resolution", 1).std()


@pytest.mark.parametrize("alignment", TEMPLATES)
@pytest.mark.parametrize(("name", "points"), [("occlusion_eyes", [0, 1]), ("occlusion_mouth", [3, 4])])
def test_bars_cover_what_they_say(alignment: str, name: str, points: list[int]) -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    for strength in STRENGTHS:
        covered = perturbations(alignment)[name](white, strength, np.random.default_rng(0))[..., 0] < 255
        for x, y in TEMPLATES[alignment][points]:
            assert covered[round(y), round(x)]
    eye_distance = TEMPLATES[alignment][1, 0] - TEMPLATES[alignment][0, 0]
    assert covered.sum() == pytest.approx(2 * eye_distance**2, rel=0.1)


def test_a_square_covers_its_share() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    for seed in range(20):
        covered = change(white, "occlusion_random", 5, seed)[..., 0] < 255
        assert covered.sum() == 63 * 63  # 0.4 = 0.632^2


def test_a_point_moves_as_far_as_it_says() -> None:
    dot = np.zeros((101, 101, 3), np.uint8)
    dot[45:56, 75:86] = 255  # around (80, 50), 30 right of the middle

    def centre(name: str, strength: int) -> np.ndarray:
        y, x = np.nonzero(change(dot, name, strength)[..., 0] > 127)
        return np.array([x.mean() - 50, y.mean() - 50])

    assert np.hypot(*(centre("shift", 4) - [30, 0])) == pytest.approx(12.1, abs=0.7)
    assert np.abs(centre("rotation", 5)) == pytest.approx([30 * 3**0.5 / 2, 15], abs=0.5)
    assert centre("scale", 5)[0] == pytest.approx(39, abs=0.5) or centre("scale", 5)[0] == pytest.approx(23, abs=0.5)
