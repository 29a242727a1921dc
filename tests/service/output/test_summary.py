"""Running sums against numpy over all values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import ActionUnit, Affect, Expression
from model_core.baseline import Change
from service.output.summary import RunningSpread, TrackStatistics

VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=200)


@given(VALUES)
def test_a_running_spread_is_that_of_all_values(values: list[float]) -> None:
    spread = RunningSpread()
    for value in values:
        spread.add(value)
    assert spread.values() == {
        "mean": pytest.approx(np.mean(values), abs=1e-12),
        "std": pytest.approx(np.std(values), abs=1e-7),
        "min": min(values),
        "max": max(values),
    }


def test_without_values_there_is_none() -> None:
    assert RunningSpread().values() is None
    assert TrackStatistics(0.0).summary() == {
        "valence": None,
        "arousal": None,
        "expression_share": None,
        "active_share": None,
        "eyes_closed_share": None,
        "compared": None,
        "rose_share": None,
    }


def test_shares_are_of_the_samples() -> None:
    track = TrackStatistics(1.0)
    for time_s, label, active in (
        (1.0, "sadness", True),
        (1.5, "fear", False),
        (2.0, "fear", False),
        (2.5, "fear", True),
    ):
        units = {"AU1": ActionUnit(0.5, active), "AU2": ActionUnit(0.1, active=False)}
        eyes = ActionUnit(0.5, active=time_s == 1.5)
        track.add(time_s, Affect(0.25, None, Expression(label, {}), units, eyes))
    assert (track.first_s, track.last_s) == (1.0, 2.5)
    assert track.summary() == {
        "valence": {"mean": 0.25, "std": 0.0, "min": 0.25, "max": 0.25},
        "arousal": None,
        "expression_share": {"fear": 0.75, "sadness": 0.25},
        "active_share": {"AU1": 0.5, "AU2": 0.0},
        "eyes_closed_share": 0.25,
        "compared": None,
        "rose_share": None,
    }


def test_rises_are_shares_of_the_compared_samples() -> None:
    track = TrackStatistics(0.0)
    track.add_changes(None)
    assert (track.summary()["compared"], track.summary()["rose_share"]) == (0, None)
    for rose in (True, False, False, True):
        track.add_changes({"arousal": Change(0.5, rose=None), "AU1": Change(0.5, rose), "AU2": Change(0.1, rose=False)})
    assert (track.summary()["compared"], track.summary()["rose_share"]) == (4, {"AU1": 0.5, "AU2": 0.0})
