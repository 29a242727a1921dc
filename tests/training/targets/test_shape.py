import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from training.targets.shape import COMPONENTS, ShapeModel, fit_shapes

RNG = np.random.default_rng(3)
GRID = np.stack(np.meshgrid(np.linspace(0.2, 1, 5), np.linspace(-1, 1, 8)), axis=-1).reshape(-1, 2)
HALF = GRID + RNG.uniform(-0.03, 0.03, GRID.shape)
FACE = np.concatenate([HALF, HALF * [-1, 1]])
"""80 points, of which each has its mirror image 40 places on."""


def faces(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """As photographed: each moved a little in itself, then turned, enlarged and put somewhere."""
    points = FACE + rng.normal(0, 0.02, (count, *FACE.shape))
    angle = rng.uniform(-0.4, 0.4, count)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    placed = points @ turn * rng.uniform(20, 200, (count, 1, 1)) + rng.uniform(0, 500, (count, 1, 2))
    return placed.astype(np.float32)


@pytest.fixture(scope="module")
def landmarks() -> NDArray[np.float32]:
    return faces(400, np.random.default_rng(1))


@pytest.fixture(scope="module")
def model(landmarks: NDArray[np.float32]) -> ShapeModel:
    return fit_shapes(landmarks)


def test_where_and_how_large_and_how_turned_makes_no_difference(
    model: ShapeModel, landmarks: NDArray[np.float32]
) -> None:
    quarter = np.array([[0, 1], [-1, 0]], np.float32)
    assert_allclose(model.describe(landmarks @ quarter * 3 + 100), model.describe(landmarks), atol=1e-3)


def test_each_landmark_finds_its_partner(model: ShapeModel) -> None:
    assert model.partners.tolist() == [*range(40, 80), *range(40)]


def test_a_mirror_image_is_described_as_a_picture_of_it_would_be(
    model: ShapeModel, landmarks: NDArray[np.float32]
) -> None:
    pictured = (landmarks * np.array([-1, 1], np.float32))[:, model.partners]
    assert_allclose(model.describe(landmarks, mirrored=True), model.describe(pictured), atol=1e-3)


def test_components_are_in_units_of_their_deviations(model: ShapeModel, landmarks: NDArray[np.float32]) -> None:
    both = np.concatenate([model.describe(landmarks), model.describe(landmarks, mirrored=True)])
    assert both.shape == (800, COMPONENTS)
    assert_allclose(both.mean(axis=0), 0, atol=5e-3)  # aligned to the mean of both, which moved a little
    assert_allclose(both.std(axis=0, ddof=1), 1, atol=5e-3)
    assert (np.diff(model.deviations) <= 0).all()


def test_a_face_that_was_not_read_is_described_all_the_same(model: ShapeModel) -> None:
    assert np.isfinite(model.describe(np.zeros((1, 80, 2), np.float32))).all()


def test_one_face_has_no_variance(landmarks: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="landmarks of two faces at least, not of 1"):
        fit_shapes(landmarks[:1])
