"""The intervals in which a value stays above its threshold: onset, apex and offset."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from affect_client.numbers import NOT_NEGATIVE, PROBABILITY
from affect_client.recordings import Recording

_TOLERANCE_S = 1e-6
"""Times are sums, so lengths that are equal on paper differ by less than this."""


@dataclass(frozen=True)
class Interval:
    """A time in which a probability stays at or above its threshold, or a rise above a baseline lasts."""

    onset_s: float
    """Time of its first frame."""
    apex_s: float
    """Time of the frame with the highest probability or change; the first of several."""
    offset_s: float
    """End of its last frame: one usual step after that frame's time, at most the time of the next frame."""
    peak: float
    """The highest probability or change."""


@dataclass(frozen=True)
class IntervalRules:
    """When a value counts as being above its threshold, and which intervals are told."""

    unit_threshold: float | None = None
    """Probability from which an action unit is present; None for the thresholds of the units, `active` in answers."""
    expression_threshold: float = 0.5
    """Probability from which an expression is present; from 0.5 on it is more probable than all others together."""
    min_duration_s: float = 0.0
    """Shorter intervals are left out."""
    max_gap_s: float = 0.0
    """Intervals with at most this time between offset and onset are one. The face may be unseen in between."""

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of range."""
        if self.unit_threshold is not None:
            PROBABILITY.check("unit_threshold", self.unit_threshold)
        PROBABILITY.check("expression_threshold", self.expression_threshold)
        NOT_NEGATIVE.check("min_duration_s", self.min_duration_s)
        NOT_NEGATIVE.check("max_gap_s", self.max_gap_s)


def unit_intervals(recording: Recording, track_id: int, unit: str, rules: IntervalRules) -> list[Interval]:
    """Return the intervals of an action unit of a track, in their order."""
    track = recording.track(track_id)
    if rules.unit_threshold is None:
        above = [value == 1 for value in track[f"{unit}_active"]]
    else:
        above = [value >= rules.unit_threshold for value in track[unit]]
    return _intervals(recording, track[unit], above, rules)


def expression_intervals(recording: Recording, track_id: int, label: str, rules: IntervalRules) -> list[Interval]:
    """Return the intervals of an expression of a track, in their order."""
    values = recording.track(track_id)[f"expression_{label}"]
    return _intervals(recording, values, [value >= rules.expression_threshold for value in values], rules)


def rise_intervals(recording: Recording, track_id: int, name: str, rules: IntervalRules) -> list[Interval]:
    """Return the intervals in which a unit, `valence` or `arousal` has risen above its baseline, in their order."""
    track = recording.track(track_id)
    return _intervals(recording, track[f"{name}_change"], [value == 1 for value in track[f"{name}_rose"]], rules)


def face_intervals(recording: Recording, track_id: int) -> list[Interval]:
    """Return the intervals in which a track has a face, in their order; their peaks are 1."""
    columns = recording.track(track_id).values()
    seen = [any(not math.isnan(value) for value in values) for values in zip(*columns, strict=True)]
    return _intervals(recording, [float(each) for each in seen], seen, IntervalRules())


def _intervals(
    recording: Recording, values: Sequence[float], above: Sequence[bool], rules: IntervalRules
) -> list[Interval]:
    joined: list[Interval] = []
    for each in _runs(recording, values, above):
        if joined and each.onset_s - joined[-1].offset_s <= rules.max_gap_s + _TOLERANCE_S:
            joined[-1] = _union(joined[-1], each)
        else:
            joined.append(each)
    return [each for each in joined if each.offset_s - each.onset_s >= rules.min_duration_s - _TOLERANCE_S]


def _runs(recording: Recording, values: Sequence[float], above: Sequence[bool]) -> Iterator[Interval]:
    """Return the longest runs of frames above the threshold."""
    times_s = recording.times_s
    step_s = recording.step_s
    start: int | None = None
    for place in range(len(times_s) + 1):
        is_above = place < len(times_s) and above[place]
        if is_above and start is None:
            start = place
        if not is_above and start is not None:
            apex = max(range(start, place), key=values.__getitem__)
            end_s = times_s[place - 1] + step_s
            offset_s = end_s if place == len(times_s) else min(end_s, times_s[place])
            yield Interval(times_s[start], times_s[apex], offset_s, values[apex])
            start = None


def _union(first: Interval, second: Interval) -> Interval:
    higher = second if second.peak > first.peak else first
    return Interval(first.onset_s, higher.apex_s, second.offset_s, higher.peak)
