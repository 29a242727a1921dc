"""The renderer, on a ball."""

import numpy as np
import pytest

from tests.training.rendered.test_features import ball
from training.rendered.light import directions, facing_light
from training.rendered.pieces import plain
from training.rendered.scene import Camera, Renderer, Shot

SIZE = 24
AT_THE_BALL = Camera(distance_cm=200.0, height_cm=26.0, shift_cm=(0.0, 2.0))
BALL = plain("cloth", ball(), [0.5, 0.5, 0.5])


@pytest.fixture(scope="module")
def renderer(path_tracer: None) -> Renderer:
    return Renderer(SIZE, 32)


def lit_from(x: float, y: float, z: float) -> Shot:
    sky = np.clip(directions(32) @ [x, y, z], 0, None)[:, :, None].repeat(3, axis=2) + 0.01
    return Shot(np.eye(3), np.zeros(3), AT_THE_BALL, sky.astype(np.float32))


def test_light_comes_from_where_it_was_put(renderer: Renderer) -> None:
    """The camera sees the person's left, +x, at its right."""
    third = SIZE // 3
    left = renderer.render([BALL], lit_from(1, 0, 0), 0)[:, :, 0]
    assert left[:, -third:].sum() > 3 * left[:, :third].sum()
    above = renderer.render([BALL], lit_from(0, 1, 0), 0)[:, :, 0]
    assert above[:third].sum() > 3 * above[-third:].sum()
    ahead = renderer.render([BALL], lit_from(0, 0, 1), 0)[:, :, 0]
    behind = renderer.render([BALL], lit_from(0, 0, -1), 0)[:, :, 0]
    assert ahead.sum() > 5 * behind.sum()


def test_a_surface_that_faces_even_light_reflects_its_share(renderer: Renderer) -> None:
    sky = np.ones((32, 64, 3), dtype=np.float32)
    assert facing_light(sky) == pytest.approx(1, rel=0.01)
    shot = Shot(np.eye(3), np.zeros(3), AT_THE_BALL, sky)
    picture = renderer.render([BALL], shot, 0)
    assert picture[SIZE // 2, SIZE // 2, :3] == pytest.approx(0.5, abs=0.08)


def test_the_background_is_left_open(renderer: Renderer) -> None:
    picture = renderer.render([BALL], lit_from(0, 0, 1), 0)
    assert picture[0, 0].tolist() == pytest.approx([0] * 4, abs=1e-3)
    assert picture[SIZE // 2, SIZE // 2, 3] == pytest.approx(1)


def test_the_same_seed_gives_the_same_light(renderer: Renderer) -> None:
    first, again, other = (renderer.render([BALL], lit_from(1, 1, 1), seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_head_turns_about_its_pivot(renderer: Renderer) -> None:
    half_turn = np.diag([-1.0, 1.0, -1.0])
    shot = Shot(half_turn, np.array([5.0, 0, -9]), AT_THE_BALL, np.ones((32, 64, 3), np.float32))
    alpha = renderer.render([BALL], shot, 0)[:, :, 3]
    # The ball's middle moves from x = 0 to x = 10.
    assert (alpha * np.arange(SIZE)).sum() / alpha.sum() > 0.6 * SIZE
