from collections.abc import Callable

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.rendered.movements import (
    DRAWN_UNITS,
    EXPRESSIONS,
    ONE_SIDED,
    OTHER_UNITS,
    Movement,
    draw_strength,
    expression,
    neutral,
    other,
    pair,
    single,
    votes,
)

LABELS = LABEL_SETS["ferplus"]
DRAW: dict[str, Callable[[np.random.Generator], Movement]] = {
    "neutral": neutral,
    "pair": lambda rng: pair(0.9, rng),
    "other": lambda rng: other(0.9, rng),
    **{unit: lambda rng, unit=unit: single(unit, 0.7, rng) for unit in ACTION_UNITS},  # type: ignore[misc]
    **{name: lambda rng, name=name: expression(name, 1.0, rng) for name in EXPRESSIONS},  # type: ignore[misc]
}


def test_every_expression_but_neutral_is_composed() -> None:
    assert set(EXPRESSIONS) == set(LABELS) - {"neutral"}
    for variants in EXPRESSIONS.values():
        for variant in variants:
            assert variant.keys() <= {*DRAWN_UNITS, *OTHER_UNITS}
            assert all(0 < intensity <= 1 for intensity in variant.values())


@pytest.mark.parametrize("name", DRAW)
def test_intensities_are_between_0_and_1_on_known_units(name: str) -> None:
    for seed in range(40):
        movement = DRAW[name](np.random.default_rng(seed))
        for side in (movement.left, movement.right):
            assert side.keys() <= {*DRAWN_UNITS, *OTHER_UNITS}
            assert all(0 <= intensity <= 1 for intensity in side.values())


@pytest.mark.parametrize("name", DRAW)
def test_the_same_generator_draws_the_same(name: str) -> None:
    assert DRAW[name](np.random.default_rng(5)) == DRAW[name](np.random.default_rng(5))


def test_a_face_at_rest_hardly_moves() -> None:
    for seed in range(100):
        movement = neutral(np.random.default_rng(seed))
        assert max([0.0, *movement.left.values(), *movement.right.values()]) <= 0.05


@pytest.mark.parametrize("unit", DRAWN_UNITS)
def test_a_single_unit_has_its_strength_on_one_side_or_both(unit: str) -> None:
    alone = 0
    for seed in range(200):
        movement = single(unit, 0.6, np.random.default_rng(seed))
        left, right = movement.left[unit], movement.right[unit]
        if min(left, right) < 0.1:
            alone += 1
        assert max(left, right) == pytest.approx(0.6, abs=0.15)
    assert (20 < alone < 60) if unit in ONE_SIDED else alone == 0


def test_pressed_lips_are_not_opened_in_a_pair() -> None:
    for seed in range(300):
        units = {unit for unit, value in pair(0.9, np.random.default_rng(seed)).left.items() if value > 0.1}
        assert len(units & {"AU23", "AU24"}) <= 1
        assert not (units & {"AU23", "AU24"} and units & {"AU10", "AU26"})


def test_contempt_is_on_one_side() -> None:
    for seed in range(50):
        movement = expression("contempt", 1.0, np.random.default_rng(seed))
        low, high = sorted([movement.left["AU14"], movement.right["AU14"]])
        assert low < 0.2
        assert high > 0.4


@pytest.mark.parametrize(("strength", "share"), [(0.1, 0.0), (0.3, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_a_slight_expression_is_shared_with_neutral(strength: float, share: float) -> None:
    drawn = votes(Movement("expression", {}, {}, "anger", strength))
    assert drawn[LABELS.index("anger")] == pytest.approx(share)
    assert drawn[LABELS.index("neutral")] == pytest.approx(1 - share)
    assert sum(drawn) == pytest.approx(1)


def test_rest_is_neutral_and_single_units_are_no_expression() -> None:
    assert votes(neutral(np.random.default_rng(0)))[LABELS.index("neutral")] == 1
    assert not any(votes(single("AU12", 1.0, np.random.default_rng(0))))


def test_two_of_five_strengths_are_low() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_strength(rng) for _ in range(4000)])
    assert 0.1 <= drawn.min() < drawn.max() <= 1
    assert (drawn < 0.4).mean() == pytest.approx(0.4, abs=0.03)
