"""Compares the faces of an analysis with what they look like at rest, frame by frame."""

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np

from model_core.baseline import Change, Comparison, Levels
from service.analysis.results import Baseline, FirstSeconds, KnownBaseline, WholeTrack
from service.media.demuxing import ROUNDING_S

NOTHING_TO_COMPARE = "no bundle that answers estimates valence, arousal or action units, so there is nothing to compare"


class FaceComparison(Protocol):
    """Compares the faces of one source, in the order of its frames."""

    def changes(self, track_id: int, levels: Levels, time_s: float) -> Mapping[str, Change] | None:
        """Take in a track's next levels, and return their changes; None where its baseline is not known yet."""
        ...

    def keep(self, track_ids: Collection[int]) -> None:
        """Forget all tracks but these."""
        ...


def build_comparison(baseline: Baseline | None, comparison: Comparison) -> FaceComparison:
    """Return the comparison of a request's option."""
    match baseline:
        case KnownBaseline():
            return WithKnownBaseline(baseline.levels, comparison)
        case FirstSeconds():
            return WithFirstSeconds(baseline.length_s, comparison)
        case WholeTrack() | None:
            return NoComparison()


class NoComparison:
    """There is no baseline, or none that is known while frames come."""

    def changes(self, track_id: int, levels: Levels, time_s: float) -> None:
        """See FaceComparison."""

    def keep(self, track_ids: Collection[int]) -> None:
        """See FaceComparison."""


class WithKnownBaseline:
    """Every face is compared with the same levels."""

    def __init__(self, baseline: Levels, comparison: Comparison) -> None:
        self._baseline = baseline
        self._comparison = comparison

    def changes(self, track_id: int, levels: Levels, time_s: float) -> Mapping[str, Change]:
        """See FaceComparison."""
        return self._comparison.changes(self._baseline, levels)

    def keep(self, track_ids: Collection[int]) -> None:
        """See FaceComparison."""


class WithFirstSeconds:
    """Each track is compared with the mean of its first levels; those have no changes themselves."""

    def __init__(self, length_s: float, comparison: Comparison) -> None:
        self._length_s = length_s
        self._comparison = comparison
        self._tracks: dict[int, Beginning] = {}

    def changes(self, track_id: int, levels: Levels, time_s: float) -> Mapping[str, Change] | None:
        """See FaceComparison."""
        track = self._tracks.setdefault(track_id, Beginning(time_s, len(levels)))
        if time_s - track.first_s < self._length_s - ROUNDING_S:
            track.add(levels)
            return None
        return self._comparison.changes(track.mean, levels)

    def keep(self, track_ids: Collection[int]) -> None:
        """See FaceComparison."""
        self._tracks = {track_id: track for track_id, track in self._tracks.items() if track_id in track_ids}


class Beginning:
    """The mean of a track's first levels, as a running sum."""

    def __init__(self, first_s: float, width: int) -> None:
        """Take the time of the track's first face in seconds, and the number of its levels."""
        self.first_s = first_s
        self._sum = np.zeros(width)
        self._count = 0

    def add(self, levels: Levels) -> None:
        """Take in the levels of a face."""
        self._sum += levels
        self._count += 1

    @property
    def mean(self) -> Levels:
        """Of at least one face, for a track's first face lies in its first seconds."""
        return self._sum / self._count
