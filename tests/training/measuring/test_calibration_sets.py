from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from model_core.calibration import UNCALIBRATED_UNIT
from tests.fakes import write_prepared
from training.data.mixture import Source
from training.data.prepared import PreparedFaces, load_prepared
from training.measuring.calibration_sets import CalibrationSet, describe, fit_sets
from training.measuring.fitting import fit_axis, fit_expression, fit_unit, resting_threshold
from training.measuring.scoring import Outputs

UNITS = len(ACTION_UNITS)


@pytest.fixture
def faces(tmp_path: Path) -> PreparedFaces:
    """240 faces; units are present in every second one."""
    prepared = load_prepared(write_prepared(tmp_path / "p", train=0, validation=240, test=0, side=16))
    present = np.arange(240) % 2 == 1
    return replace(prepared, action_units=np.repeat(present[:, None], UNITS, axis=1).astype(np.float32))


def of(source: Source, logits: np.ndarray, neutral: np.ndarray | None = None) -> CalibrationSet:
    """The same logit for each unit."""
    outputs = Outputs(np.arange(len(logits)), None, None, np.repeat(logits[:, None], UNITS, axis=1))
    return CalibrationSet(source, outputs, neutral)


def test_copies_are_fitted_and_not_counted() -> None:
    """Fifteen positives are too few to fit a unit, and sixty to choose its threshold, however many copies there are."""
    rng = np.random.default_rng(5)
    for positives, fitted in ((15, False), (60, True)):
        positive = np.arange(400) < positives
        logits = 2.0 * positive + rng.normal(size=400)
        twice, copies = np.tile(np.arange(400), 2), np.arange(800) >= 400
        alone = fit_unit(logits, positive)
        both = fit_unit(logits[twice], positive[twice], copies=copies)
        assert (alone != UNCALIBRATED_UNIT) == (both != UNCALIBRATED_UNIT) == fitted
        assert alone.threshold == both.threshold == 0.5
        assert (alone.slope, alone.intercept) == pytest.approx((both.slope, both.intercept), abs=1e-4)


def test_weights_count_like_repetitions() -> None:
    rng = np.random.default_rng(3)
    logits, positive = rng.normal(size=300), rng.random(300) < 0.5
    times = np.where(np.arange(300) < 100, 3, 1)
    weights = times / times.mean()
    repeated = np.repeat(np.arange(300), times)
    weighted, plain = fit_unit(logits, positive, weights=weights), fit_unit(logits[repeated], positive[repeated])
    assert (weighted.slope, weighted.intercept) == pytest.approx((plain.slope, plain.intercept), abs=2e-3)
    assert weighted.threshold == pytest.approx(plain.threshold, abs=2e-3)
    on_grid = [
        fit_unit(logits[rows], positive[rows], "grid", w).threshold
        for rows, w in ((slice(None), weights), (repeated, None))
    ]
    assert on_grid[0] == on_grid[1]
    many, labels = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    one, other = fit_expression(many, labels, weights), fit_expression(many[repeated], labels[repeated])
    assert one.bias == pytest.approx(other.bias, abs=1e-4)
    reference = logits + rng.normal(size=300) / 9
    axis, repeated_axis = (
        fit_axis(logits / 9, reference / 9, weights),
        fit_axis(logits[repeated] / 9, reference[repeated] / 9),
    )
    assert axis is not None
    assert repeated_axis is not None
    assert axis.slope == pytest.approx(repeated_axis.slope)
    assert axis.half_width == pytest.approx(repeated_axis.half_width, rel=0.05)


def test_sets_weigh_the_same_however_large_they_are(faces: PreparedFaces) -> None:
    rng = np.random.default_rng(0)
    # In the large set units are present from a logit of 0 on, in the small one from 4 on.
    logits = rng.normal(0, 1, 240) + np.where(faces.units_present[:, 0], 1, -1)
    small = faces.take(np.arange(48))
    pair = [of(Source("large", faces), logits), of(Source("small", small), logits[:48] + 4)]
    even = fit_sets(pair).action_units
    assert even is not None
    heavier = fit_sets([pair[0], replace(pair[1], source=replace(pair[1].source, share=9))]).action_units
    alone = fit_sets(pair[1:]).action_units
    assert heavier is not None
    assert alone is not None

    def middle(unit: object) -> float:
        return -unit.intercept / unit.slope  # type: ignore[attr-defined]

    # Half-way between the two sets' own middles, 0 and 4, and nearer to the second's as its weight grows.
    assert middle(even["AU1"]) == pytest.approx(2, abs=0.6)
    assert middle(even["AU1"]) < middle(heavier["AU1"]) < middle(alone["AU1"]) + 0.2


@pytest.mark.parametrize(
    ("count", "share", "reached"),
    [(100, 0.05, 4), (20, 0.05, 0), (21, 0.05, 1), (40, 0.05, 1), (10, 0.5, 4), (3, 1, 2)],
)
def test_fewer_than_the_share_of_faces_at_rest_reach_the_threshold(count: int, share: float, reached: int) -> None:
    probability = np.random.default_rng(1).permutation(np.linspace(0.1, 0.8, count))
    threshold = resting_threshold(probability, share)
    assert (probability >= threshold).sum() == reached < share * count


def test_equal_scores_and_no_faces_bound_a_threshold_too() -> None:
    assert resting_threshold(np.zeros(0), 0.05) == 0
    assert resting_threshold(np.full(50, 0.3), 0.05) == pytest.approx(0.3, abs=1e-5)
    assert (np.full(50, 0.3) >= resting_threshold(np.full(50, 0.3), 0.05)).sum() == 0
    assert resting_threshold(np.array([0.2] * 30 + [0.3] * 10 + [0.9]), 0.05) == pytest.approx(0.6)


def test_untrusted_targets_do_not_fit_a_unit_but_their_neutral_faces_bound_it(faces: PreparedFaces) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1, 240) + np.where(faces.units_present[:, 0], 2, -2)
    wild = rng.normal(3, 1, 240)
    trusted = of(Source("a", faces), logits, ~faces.units_present[:, 0])
    elsewhere = replace(faces, info=replace(faces.info, dataset="elsewhere"))
    other = of(Source("b", elsewhere, trusted_units=("AU2",)), wild, np.ones(240, dtype=bool))
    alone = fit_sets([trusted]).action_units
    both = fit_sets([trusted, other], resting_share=0.05).action_units
    assert alone is not None
    assert both is not None
    assert (both["AU1"].slope, both["AU1"].intercept) == (alone["AU1"].slope, alone["AU1"].intercept)
    assert both["AU2"].slope < alone["AU2"].slope
    assert both["AU1"].threshold > alone["AU1"].threshold
    assert (both["AU1"].probability(wild) >= both["AU1"].threshold).sum() == 11  # less than a twentieth of 240
    # A copy of the faces without `neutral` bounds nothing.
    assert fit_sets([trusted, replace(other, neutral=None)]).action_units["AU1"] == alone["AU1"]  # type: ignore[index]


def test_sets_of_one_data_set_bound_a_threshold_together(faces: PreparedFaces) -> None:
    rng = np.random.default_rng(4)
    logits = [rng.normal(mean, 1, 240) + np.where(faces.units_present[:, 0], 0.5, -0.5) for mean in (0, 3)]
    resting = ~faces.units_present[:, 0] & (np.arange(240) % 4 == 0)
    sets = [of(Source(name, faces), each, resting) for name, each in zip("ab", logits, strict=True)]
    apart = replace(sets[1].source, faces=replace(faces, info=replace(faces.info, dataset="elsewhere")))

    def active(chosen: list[CalibrationSet]) -> list[int]:
        unit = (fit_sets(chosen, resting_share=0.2).action_units or {})["AU1"]
        return [int((unit.probability(each[resting]) >= unit.threshold).sum()) for each in logits]

    count = int(resting.sum())
    assert 0 < sum(active(sets)) < 0.2 * 2 * count
    assert active(sets)[1] > 0.2 * count  # the second set alone would have had a higher threshold
    assert 0 < active([sets[0], replace(sets[1], source=apart)])[1] < 0.2 * count


def test_the_faces_at_rest_alone_decide_where_a_unit_is_rare(faces: PreparedFaces) -> None:
    present = np.zeros_like(faces.action_units)
    present[:60, 0] = 1
    rare = replace(faces, action_units=present)
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, 240) + np.where(np.arange(240) < 60, 1, -3)
    units = fit_sets([of(Source("a", rare), logits, np.arange(240) >= 140)], resting_share=0.05).action_units
    assert units is not None
    active = units["AU1"].probability(logits) >= units["AU1"].threshold
    assert active[140:].sum() == 4  # less than a twentieth of 100
    assert units["AU1"].threshold < 0.5


def test_a_unit_that_no_set_is_trusted_with_is_not_fitted(faces: PreparedFaces) -> None:
    units = fit_sets([of(Source("a", faces, trusted_units=("AU2",)), np.linspace(-1, 1, 240))]).action_units
    assert units is not None
    assert units["AU1"] == UNCALIBRATED_UNIT
    assert units["AU2"] != UNCALIBRATED_UNIT


def test_a_line_for_each_set(faces: PreparedFaces) -> None:
    neutral = np.arange(240) < 4
    given = of(Source("clean", faces), np.where(np.arange(240) == 0, 1.0, -1.0), neutral)
    calibration = fit_sets([of(Source("x", faces, trusted_units=()), np.zeros(240))])
    (line,) = describe([given], calibration)
    assert line.startswith("clean: 240 faces, mean ECE of 12 units 0.")
    assert line.endswith("of 4 neutral ones AU1 is active in 0.250, no unit in more")
