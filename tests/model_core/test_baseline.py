"""Changes against a person's own baseline, by numbers that can be checked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_core import baseline
from model_core.affect import ACTION_UNITS
from model_core.baseline import Change, ChangeEstimator, Comparison, levels_of
from model_core.calibration import AXES, UNCALIBRATED_UNIT, Calibration, ChangeLimits, UnitCalibration

BOTH = ("valence_arousal", "action_units")
LIMITS = ChangeLimits({"valence": 0.1, "arousal": 0.2}, dict.fromkeys(ACTION_UNITS, 1.0))
COMPARISON = Comparison.of(BOTH, Calibration(change_limits=LIMITS))
ALL_LEVELS = arrays(np.float64, 14, elements=st.floats(-50, 50))


def levels(valence: float, arousal: float, **units: float) -> np.ndarray:
    """Levels with these units' log-odds; the others' are 0."""
    return np.array([valence, arousal, *(units.get(name, 0.0) for name in ACTION_UNITS)])


def test_values_are_differences_of_estimates_and_probabilities() -> None:
    # Odds of 1/9, 1 and 3 are probabilities of 0.1, 0.5 and 0.75.
    rest = levels(-0.2, 0.1, AU1=math.log(3), AU12=-math.log(9))
    changes = COMPARISON.changes(rest, levels(0.3, 0.1, AU1=0.0, AU12=math.log(3)))
    assert tuple(changes) == (*AXES, *ACTION_UNITS)
    assert changes["valence"] == Change(pytest.approx(0.5), rose=True)
    assert changes["arousal"] == Change(0.0, rose=False)
    assert changes["AU1"] == Change(pytest.approx(-0.25), rose=False)
    assert changes["AU12"] == Change(pytest.approx(0.65), rose=True)
    assert changes["AU2"] == Change(0.0, rose=False)


def test_a_rise_is_judged_by_log_odds() -> None:
    # From 0.0001 to 0.001 is little of a probability, and 2.3 of log-odds; from 0.5 to 0.7 it is 0.85.
    rest = levels(0, 0, AU4=math.log(0.0001 / 0.9999), AU6=0.0)
    changes = COMPARISON.changes(rest, levels(0, 0, AU4=math.log(0.001 / 0.999), AU6=math.log(0.7 / 0.3)))
    assert changes["AU4"] == Change(pytest.approx(0.0009), rose=True)
    assert changes["AU6"] == Change(pytest.approx(0.2), rose=False)


def test_a_limit_is_not_yet_a_rise() -> None:
    changes = COMPARISON.changes(levels(0, 0), levels(0, 0, AU1=1.0, AU2=1.0001))
    assert (changes["AU1"].rose, changes["AU2"].rose) == (False, True)


def test_without_limits_there_are_values_only() -> None:
    plain = Comparison.of(BOTH, Calibration())
    changes = plain.changes(levels(0, 0), levels(0.5, 0, AU1=math.log(3)))
    assert changes["valence"] == Change(0.5, rose=None)
    assert changes["AU1"] == Change(pytest.approx(0.25), rose=None)


def test_only_tasks_that_are_answered_are_compared() -> None:
    calibration = Calibration(change_limits=LIMITS)
    assert Comparison.of(("action_units", "expression"), calibration).names == tuple(ACTION_UNITS)
    axes = Comparison.of(("valence_arousal",), calibration)
    assert axes.names == AXES
    assert axes.limits == {"valence": 0.1, "arousal": 0.2}
    assert Comparison.of(("expression",), calibration).changes(np.empty(0), np.empty(0)) == {}


@given(ALL_LEVELS)
def test_a_face_has_not_changed_against_itself(same: np.ndarray) -> None:
    for change in COMPARISON.changes(same, same).values():
        assert change == Change(0.0, rose=False)


@given(ALL_LEVELS, ALL_LEVELS)
def test_a_change_and_its_reverse_cancel_and_do_not_both_rise(first: np.ndarray, second: np.ndarray) -> None:
    there, back = COMPARISON.changes(first, second), COMPARISON.changes(second, first)
    for name in COMPARISON.names:
        assert there[name].value == pytest.approx(-back[name].value, abs=1e-9)
        assert not (there[name].rose and back[name].rose)


def test_levels_are_calibrated_estimates_and_log_odds() -> None:
    units = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU2": UnitCalibration(2.0, -1.0, 0.5)}
    calibration = Calibration(action_units=units)
    logits = np.zeros((1, 12))
    logits[0, :2] = 3.0
    expected = [-0.5, 0.25, 3.0, 5.0, *[0.0] * 10]  # AU2: 2 * 3 - 1
    axes = np.array([[-0.5, 0.25]])
    assert levels_of({"valence_arousal": axes, "action_units": logits}, calibration).tolist() == [expected]
    assert levels_of({"action_units": logits}, calibration).tolist() == [expected[2:]]
    assert levels_of({"valence_arousal": axes}, calibration).tolist() == [expected[:2]]


ESTIMATOR = ChangeEstimator(
    first=np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]),
    bias=np.array([0.0, -1.0, 0.5]),
    last=np.vstack([np.diag([1.0, 2.0, 1.0]), np.zeros((9, 3)), np.diag([0.1, 0.2, 0.4]), np.zeros((9, 3))]),
)


def test_an_estimator_by_hand() -> None:
    # The hidden layer is max(0, [a, b - 1, b - a + 0.5]), of which [0, 0, 0.5] stands for no difference.
    still = ESTIMATOR(np.zeros(2))
    assert still.rises.tolist() == still.values.tolist() == [0.0] * 12
    moved = ESTIMATOR(np.array([[3.0, 2.0], [-3.0, 2.0]]))
    assert moved.rises[:, :4].tolist() == [[3.0, 2.0, -0.5, 0.0], [0.0, 2.0, 5.0, 0.0]]
    assert moved.values[:, :4] == pytest.approx(np.array([[0.3, 0.2, -0.2, 0.0], [0.0, 0.2, 1.0, 0.0]]))


def test_outputs_for_changes_are_compared_instead_of_log_odds() -> None:
    calibration = Calibration(change_limits=ChangeLimits(action_units=dict.fromkeys(ACTION_UNITS, 2.5)))
    logits = {
        "valence_arousal": np.array([[0.1, 0.2], [0.4, 0.2]]),
        "action_units": np.full((2, 12), 9.0),
        "unit_changes": np.array([[7.0, 5.0], [10.0, 7.0]]),
    }
    rest, face = levels_of(logits, calibration)
    assert rest.tolist() == [0.1, 0.2, 7.0, 5.0]
    comparison = Comparison.of(tuple(logits), calibration, ESTIMATOR)
    assert comparison.width == 4
    changes = comparison.changes(rest, face)
    assert tuple(changes) == (*AXES, *ACTION_UNITS)
    assert changes["valence"] == Change(pytest.approx(0.3), rose=None)
    assert changes["AU1"] == Change(pytest.approx(0.3), rose=True)
    assert changes["AU2"] == Change(pytest.approx(0.2), rose=False)
    assert changes["AU4"] == Change(pytest.approx(-0.2), rose=False)
    assert Comparison.of(("unit_changes",), calibration, ESTIMATOR).names == tuple(ACTION_UNITS)


def test_rest_is_a_low_quantile_of_units_and_the_median_of_axes() -> None:
    track = np.stack([levels(step, -step, AU1=step, AU2=10 - step) for step in range(11)])
    at_rest = dict(zip(COMPARISON.names, (track - COMPARISON.compare_in_track(track).rises)[0], strict=True))
    assert (at_rest["valence"], at_rest["arousal"]) == (5.0, -5.0)
    assert (at_rest["AU1"], at_rest["AU2"], at_rest["AU4"]) == (3.0, 3.0, 0.0)  # 0.3 of the way from 0 to 10
    assert (track - COMPARISON.compare_in_track(track, 0.5).rises)[:, 2].tolist() == [5.0] * 11
    assert COMPARISON.compare_in_track(track[:1]).rises.tolist() == [[0.0] * 14]
    told = list(COMPARISON.changes_in_track(track))
    assert len(told) == 11
    assert told[7] == COMPARISON.changes(np.array(list(at_rest.values())), track[7])


def test_a_track_that_moves_for_most_of_the_time_is_compared_with_its_rest() -> None:
    """What relaxes is told less well than what moves, so the faces at rest must become the baseline."""
    last = np.zeros((24, 2))
    last[0], last[12] = [1.0, -0.2], [0.1, -0.02]
    comparison = Comparison.of(
        ("unit_changes",), Calibration(), ChangeEstimator(np.array([[1.0], [-1.0]]), np.zeros(2), last)
    )
    track = np.array([[0.0]] * 5 + [[5.0]] * 6)
    # Above the middle face, 5, the first five rise by -1 and the others by 0; places 2 to 4 of this order are at rest.
    compared = comparison.compare_in_track(track)
    assert compared.rises[:, 0].tolist() == [0.0] * 5 + [5.0] * 6
    assert compared.values[:, 0] == pytest.approx([0.0] * 5 + [0.5] * 6)
    assert not compared.rises[:, 1:].any()
    # Of ten faces those at places 2 and 3 are, though 2 / 3 * 0.3 * 10 is 1.9999...
    compared = comparison.compare_in_track(np.array([[0.0], [2.0], [4.0], [5.0], *[[9.0]] * 6]))
    assert compared.rises[4:, 0].tolist() == [4.5] * 6
    assert next(comparison.changes_in_track(track[::-1]))["AU1"] == Change(pytest.approx(0.5), rose=None)
    assert comparison.compare_in_track(track[:1]).rises.tolist() == [[0.0] * 12]


def test_a_long_track_is_compared_like_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = Comparison.of(("unit_changes",), Calibration(), ESTIMATOR)
    track = np.random.default_rng(0).normal(size=(11, 2))
    whole = comparison.compare_in_track(track)
    monkeypatch.setattr(baseline, "_PART", 4)
    parts = comparison.compare_in_track(track)
    assert parts.rises == pytest.approx(whole.rises)
    assert parts.values == pytest.approx(whole.values)


@pytest.mark.parametrize(
    ("axes", "units", "message"),
    [
        ({"valence": -0.1, "arousal": 0.1}, None, "finite and at least 0"),
        ({"valence": math.nan, "arousal": 0.1}, None, "finite and at least 0"),
        (None, dict.fromkeys(ACTION_UNITS, math.inf), "finite and at least 0"),
        ({"arousal": 0.1, "valence": 0.1}, None, "must name the axes valence, arousal"),
        (None, {"AU1": 1.0}, "must name the units AU1, AU2"),
    ],
)
def test_impossible_limits_are_refused(axes: dict | None, units: dict | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChangeLimits(axes, units)
