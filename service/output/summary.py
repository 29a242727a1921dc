"""Summaries of tracks as running sums, so that no sample need be kept for them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from model_core.affect import Affect
from model_core.baseline import Change
from service.analysis.results import FrameResult


class RunningSpread:
    """Mean, standard deviation and extremes of values that come one by one (Welford's method)."""

    __slots__ = ("_max", "_mean", "_min", "_squares", "count")

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._min = math.inf
        self._max = -math.inf

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        before = value - self._mean
        self._mean += before / self.count
        self._squares += before * (value - self._mean)
        self._min = min(self._min, value)
        self._max = max(self._max, value)

    def values(self) -> dict[str, float] | None:
        """Return `mean`, `std` (of the population), `min` and `max`; None without a value."""
        if not self.count:
            return None
        return {
            "mean": self._mean,
            "std": math.sqrt(self._squares / self.count),
            "min": self._min,
            "max": self._max,
        }


class TrackStatistics:
    """One track so far."""

    __slots__ = (
        "_active",
        "_arousal",
        "_closed",
        "_compared",
        "_labels",
        "_rose",
        "_valence",
        "_with_eyes",
        "_with_units",
        "first_s",
        "last_s",
    )

    def __init__(self, first_s: float) -> None:
        self.first_s = first_s
        self.last_s = first_s
        self._valence = RunningSpread()
        self._arousal = RunningSpread()
        self._labels: Counter[str] = Counter()
        self._active: Counter[str] = Counter()
        self._with_units = 0
        self._closed = 0
        self._with_eyes = 0
        self._compared: int | None = None
        self._rose: Counter[str] = Counter()

    def add(self, time_s: float, affect: Affect) -> None:
        """Take in the track's next sample."""
        self.last_s = time_s
        if affect.valence is not None:
            self._valence.add(affect.valence)
        if affect.arousal is not None:
            self._arousal.add(affect.arousal)
        if affect.expression is not None:
            self._labels[affect.expression.label] += 1
        if affect.action_units is not None:
            self._with_units += 1
            self._active.update({name: int(unit.active) for name, unit in affect.action_units.items()})
        if affect.eyes_closed is not None:
            self._with_eyes += 1
            self._closed += affect.eyes_closed.active

    def add_changes(self, changes: Mapping[str, Change] | None) -> None:
        """Take in the changes of a sample whose track is compared with a baseline; None where it is not known yet."""
        self._compared = (self._compared or 0) + (changes is not None)
        if changes is not None:
            self._rose.update({name: int(change.rose) for name, change in changes.items() if change.rose is not None})

    def summary(self) -> dict[str, object]:
        """Return the contract's `summary`; what no bundle covers, and what was not asked for, is None."""
        faces = self._labels.total()
        return {
            "valence": self._valence.values(),
            "arousal": self._arousal.values(),
            "expression_share": {label: count / faces for label, count in self._labels.most_common()} or None,
            "active_share": {name: count / self._with_units for name, count in self._active.items()} or None,
            "eyes_closed_share": self._closed / self._with_eyes if self._with_eyes else None,
            "compared": self._compared,
            "rose_share": {name: count / self._compared for name, count in self._rose.items()} or None
            if self._compared
            else None,
        }


class TrackSummaries:
    """Statistics of all tracks of an analysis, in the order of their first appearance."""

    def __init__(self) -> None:
        self._tracks: dict[int, TrackStatistics] = {}

    def add(self, result: FrameResult) -> None:
        """Take in the next frame."""
        for face in result.faces:
            track = self._tracks.setdefault(face.track_id, TrackStatistics(result.time_s))
            track.add(result.time_s, face.affect)
            if face.levels is not None:
                track.add_changes(face.changes)

    def __iter__(self) -> Iterator[tuple[int, TrackStatistics]]:
        return iter(self._tracks.items())
