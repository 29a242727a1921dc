import numpy as np
import pytest

from training.rendered.light import Film, develop, directions, draw_background, draw_film, draw_sky, facing_light

PLAIN = Film(exposure=1.0, balance=np.ones(3), contrast=1.0, softness_px=0.3, noise=0.0)


def test_directions_of_a_map() -> None:
    towards = directions(32)
    assert np.linalg.norm(towards, axis=2) == pytest.approx(1)
    assert towards[0, :, 1].min() > 0.99
    assert towards[16, 32].tolist() == pytest.approx([0, 0, 1], abs=0.1)


def test_paper_under_an_even_sky_is_as_bright_as_the_sky() -> None:
    assert facing_light(np.full((64, 128, 3), 0.7)) == pytest.approx(0.7, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_sky_lights_a_face_with_brightness_1(seed: int) -> None:
    sky = draw_sky(np.random.default_rng(seed))
    assert sky.shape == (32, 64, 3)
    assert sky.min() > 0
    assert facing_light(sky) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_backgrounds_are_pictures(seed: int) -> None:
    background = draw_background(32, np.random.default_rng(seed))
    assert background.shape == (32, 32, 3)
    assert background.min() >= 0
    assert background.max() <= 1


def test_a_grey_card_before_a_white_wall() -> None:
    light = np.zeros((8, 8, 4), dtype=np.float32)
    light[:, :4] = [0.2140, 0.2140, 0.2140, 1]  # sRGB 0.5
    picture = develop(light, np.ones((8, 8, 3), np.float32), PLAIN, np.random.default_rng(0))
    assert picture[:, 0].tolist() == [[128] * 3] * 8 or picture[:, 0].tolist() == [[127] * 3] * 8
    assert picture[:, 7].min() > 240


def test_highlights_roll_off_instead_of_clipping() -> None:
    light = np.ones((8, 8, 4), dtype=np.float32)
    light[:, :4, :3], light[:, 4:, :3] = 1.0, 2.0
    picture = develop(light, np.zeros((8, 8, 3), np.float32), PLAIN, np.random.default_rng(0))
    assert picture[0, 0, 0] < picture[0, 7, 0] <= 255


def test_cameras_differ_around_their_gain() -> None:
    exposures = [draw_film(2.0, np.random.default_rng(seed)).exposure for seed in range(300)]
    assert np.exp(np.mean(np.log(exposures))) == pytest.approx(2.0, rel=0.05)
