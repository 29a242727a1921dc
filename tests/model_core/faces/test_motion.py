"""The Kalman filter of a face's box, by numbers that a person can check."""

import math

import pytest

from model_core.faces.geometry import Box
from model_core.faces.motion import ConstantVelocity, FaceMotion, Place


def test_a_place_is_the_centre_and_the_root_of_the_area() -> None:
    assert Place.of(Box(10, 20, 40, 90)) == (30, 65, pytest.approx(math.log(60)))
    assert Place.of(Box(10, 20, 0, 0)) == (10, 20, 0)


def test_a_correction_weighs_by_variances() -> None:
    coordinate = ConstantVelocity(0.0, value_variance=1.0, rate_variance=4.0, covariance=1.0)
    coordinate.correct(6.0, 2.0)
    # The gain is 1 / (1 + 2) for the value and the rate, whose covariance with it is 1.
    assert (coordinate.value, coordinate.rate) == (pytest.approx(2), pytest.approx(2))
    assert (coordinate.value_variance, coordinate.covariance, coordinate.rate_variance) == pytest.approx(
        (2 / 3, 2 / 3, 11 / 3)
    )


def test_a_prediction_moves_and_becomes_less_certain() -> None:
    coordinate = ConstantVelocity(1.0, value_variance=1.0, rate_variance=4.0, rate=3.0)
    coordinate.predict(0.5, 0.0)
    assert (coordinate.value, coordinate.value_variance, coordinate.covariance) == (2.5, 2.0, 2.0)


def test_two_steps_predict_what_one_of_their_length_does() -> None:
    once, twice = (ConstantVelocity(1.0, 0.5, 2.0, rate=3.0, covariance=0.1) for _ in range(2))
    once.predict(0.3, 1.5)
    twice.predict(0.1, 1.5)
    twice.predict(0.2, 1.5)
    assert vars(twice) == pytest.approx(vars(once))


@pytest.mark.parametrize("fps", [5, 10, 25])
def test_a_steady_walk_and_growth_are_learned_at_every_frame_rate(fps: int) -> None:
    def place(time_s: float) -> Place:
        return Place(100 + 150 * time_s, 50 - 80 * time_s, 4 + 0.1 * time_s)

    motion = FaceMotion(place(0))
    for index in range(1, 2 * fps + 1):
        motion.predict(1 / fps)
        motion.correct(place(index / fps))
    motion.predict(1.0)
    side = math.exp(place(3).log_side)
    assert motion.place.x == pytest.approx(place(3).x, abs=0.1 * side)
    assert motion.place.y == pytest.approx(place(3).y, abs=0.1 * side)
    assert motion.place.log_side == pytest.approx(place(3).log_side, abs=0.05)


def test_uncertainty_is_relative_to_the_face() -> None:
    small, large = (FaceMotion(Place(0, 0, math.log(side))) for side in (20, 200))
    for motion in (small, large):
        motion.predict(0.2)
    assert small.uncertainty == pytest.approx(large.uncertainty)
    # 0.05² for the place, 0.05² for the next detection, (3 · 0.2)² for the speed, 1.5 · 0.2³ / 3 for its change.
    assert small.uncertainty.x == pytest.approx(0.0025 + 0.0025 + 0.36 + 0.004)


def test_a_shift_and_a_stop() -> None:
    motion = FaceMotion(Place(10, 10, math.log(10)))
    motion.predict(0.1)
    motion.correct(Place(14, 10, math.log(10)))
    before = motion.place
    motion.shift(5, -5)
    assert motion.place == (before.x + 5, before.y - 5, before.log_side)
    motion.stop()
    motion.predict(1.0)
    assert motion.place == (before.x + 5, before.y - 5, before.log_side)
