"""Onset, apex and offset of intervals above a threshold, on a recording that a person can follow."""

import math
from pathlib import Path

import pytest

from affect_client.bids import physio
from affect_client.intervals import (
    Interval,
    IntervalRules,
    expression_intervals,
    face_intervals,
    unit_intervals,
)
from affect_client.recordings import Recording, read_recording

PROBABILITIES = [0.1, 0.7, 0.9, 0.9, 0.2, 0.8, math.nan, 0.6, 0.1, 0.75]
TIMES_S = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def recording(values: list[float] = PROBABILITIES, times_s: list[float] = TIMES_S) -> Recording:
    active = [math.nan if math.isnan(value) else float(value >= 0.5) for value in values]
    track = {"AU12": values, "AU12_active": active, "expression_happiness": values}
    return Recording(times_s, ["AU12"], ["happiness"], {3: track}, {})


def rounded(intervals: list[Interval]) -> list[tuple[float, float, float, float]]:
    return [(round(each.onset_s, 6), round(each.apex_s, 6), round(each.offset_s, 6), each.peak) for each in intervals]


RUNS = [(0.1, 0.2, 0.4, 0.9), (0.5, 0.5, 0.6, 0.8), (0.7, 0.7, 0.8, 0.6), (0.9, 0.9, 1.0, 0.75)]
"""The last frame ends one usual step after its time."""


def test_each_run_is_an_interval() -> None:
    assert rounded(unit_intervals(recording(), 3, "AU12", IntervalRules())) == RUNS
    assert rounded(expression_intervals(recording(), 3, "happiness", IntervalRules())) == RUNS


def test_short_ones_are_left_out() -> None:
    rules = IntervalRules(min_duration_s=0.3)
    assert rounded(unit_intervals(recording(), 3, "AU12", rules)) == RUNS[:1]


def test_gaps_are_closed_before_durations_count() -> None:
    rules = IntervalRules(max_gap_s=0.1, min_duration_s=0.9)
    assert rounded(unit_intervals(recording(), 3, "AU12", rules)) == [(0.1, 0.2, 1.0, 0.9)]


def test_the_higher_apex_of_two_is_kept() -> None:
    higher_later = [0.6, 0.1, 0.8]
    [joined] = unit_intervals(recording(higher_later, TIMES_S[:3]), 3, "AU12", IntervalRules(max_gap_s=0.1))
    assert (joined.apex_s, joined.peak) == (0.2, 0.8)


def test_thresholds_of_ones_own() -> None:
    rules = IntervalRules(unit_threshold=0.75, expression_threshold=0.85)
    units = rounded(unit_intervals(recording(), 3, "AU12", rules))
    assert [each[:1] + each[2:3] for each in units] == [(0.2, 0.4), (0.5, 0.6), (0.9, 1.0)]
    [smile] = rounded(expression_intervals(recording(), 3, "happiness", rules))
    assert smile == (0.2, 0.2, 0.4, 0.9)


def test_where_the_face_is() -> None:
    assert [each[:1] + each[2:] for each in rounded(face_intervals(recording(), 3))] == [
        (0.0, 0.6, 1.0),
        (0.7, 1.0, 1.0),
    ]


def test_an_interval_ends_before_the_next_frame() -> None:
    uneven = recording([0.9, 0.1, 0.1, 0.1], [0.0, 0.06, 0.16, 0.26])
    [only] = unit_intervals(uneven, 3, "AU12", IntervalRules())
    assert only.offset_s == 0.06


def test_the_usual_step_evens_out_rounded_times_and_leaves_out_pauses() -> None:
    thirds = recording([0.0] * 5, [0.0, 0.033, 0.067, 0.1, 5.0])
    assert thirds.step_s == pytest.approx(1 / 30)


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no track 1; there are 3"):
        face_intervals(recording(), 1)
    with pytest.raises(ValueError, match="only one frame"):
        face_intervals(recording([0.5], [0.0]), 3)


@pytest.mark.parametrize("name", ["unit_threshold", "expression_threshold", "min_duration_s", "max_gap_s"])
@pytest.mark.parametrize("value", [math.inf, math.nan, -1])
def test_rules_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: must be a finite number"):
        IntervalRules(**{name: value})


@pytest.mark.parametrize("numbers", [{"sampling_hz": math.inf}, {"sampling_hz": 0}, {"start_time_s": math.nan}])
def test_samples_out_of_range_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        physio(recording(), 3, **numbers)


def test_closed_eyes_are_read_from_a_table_like_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text(
        "frame,time_s,track_id,valence,arousal,AU12,AU12_active,AU2,AU2_active,eyes_closed,eyes_closed_active\n"
        "0,0.0,1,0.5,0.1,0.9,1,0.0,0,0.1,0\n"
        "1,0.1,1,0.5,0.1,0.9,1,0.0,0,0.9,1\n"
        "2,0.2,1,0.5,0.1,0.9,1,0.0,0,0.7,1\n"
        "3,0.3,1,0.5,0.1,0.9,1,0.0,0,0.1,0\n"
    )
    told = read_recording(path)
    assert told.units == ["AU2", "AU12", "eyes_closed"]
    assert rounded(unit_intervals(told, 1, "eyes_closed", IntervalRules())) == [(0.1, 0.1, 0.3, 0.9)]
    described = physio(told, 1).sidecar["eyes_closed"]["Description"]
    assert described.startswith("Estimated probability that both eyes are closed, from 0 to 1.")
