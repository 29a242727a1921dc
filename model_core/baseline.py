"""A person's own baseline: by how much a face has changed against the same face at rest.

Compared are levels: valence and arousal as they are, and for the action units the outputs that a network has for
changes (the task `unit_changes`). Between two faces of one person these differ by what has moved, and little by who it
is. An estimator makes of their difference each unit's rise, which tells whether it has moved, and the change of its
intensity. Of a network without the task, the units' calibrated log-odds are compared, since a difference of
probabilities is blind where both are near 0 or 1. One use::

    comparison = Comparison.of(("valence_arousal", "action_units"), calibration)
    change = comparison.changes(levels_at_rest, levels)["AU12"]
    print(change.value, change.rose)
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from model_core.calibration import AXES, Calibration, sigmoid

Levels: TypeAlias = NDArray[np.float64]
"""The levels of one face, float64 [L], as `levels_of` returns them. Their mean over time is a baseline."""

LOW_QUANTILE = 0.3
"""Quantile of a unit over a track that is taken for its rest where no other baseline is known.

A unit that moves for a share m of the time is at rest for the others, of which this is the quantile 0.3 / (1 - m): the
middle for 40 %, and never far below it. A quantile of 0.1 is the lower edge of a unit that hardly moves, against which
rest itself would seem a rise.
"""


_PART = 4096
"""Faces of a track that are compared at once: a hidden layer for all faces of hours takes hundreds of megabytes."""


@dataclass(frozen=True)
class Change:
    """The difference of a face to its baseline, for valence, arousal or an action unit."""

    value: float
    """Of an axis the difference of the estimates, in [-2, 2]. Of a unit the estimated difference of its intensities, in
    [-1, 1], or without the task `unit_changes` the difference of its calibrated probabilities."""

    rose: bool | None
    """True if it rose by more than the same face at rest does by itself; None where that limit was not fitted."""


@dataclass(frozen=True)
class Compared:
    """Levels against a baseline, for the K names of a Comparison."""

    rises: NDArray[np.float64]
    """float64 [..., K]: what limits are of. Of an axis its difference, of a unit how clearly it has moved."""

    values: NDArray[np.float64]
    """float64 [..., K]: what an answer tells; see `Change.value`."""


@dataclass(frozen=True, eq=False)
class ChangeEstimator:
    """Tells the movements of the twelve units by a difference of D outputs of `unit_changes`, with a hidden layer of H.

    Its weights are those of `models.heads.ChangeLayers`.
    """

    first: NDArray[np.float64]
    """float64 [H, D]."""
    bias: NDArray[np.float64]
    """float64 [H]."""
    last: NDArray[np.float64]
    """float64 [24, H]: for the units' rises, then for the changes of their intensities."""

    def __call__(self, differences: NDArray[np.float64]) -> Compared:
        """Return rises and values, each float64 [..., 12], for differences [..., D]; no difference gives 0.

        Rises are log-odds of movement less those of no difference. They were trained against faces at rest, so a unit
        that is moved in the baseline, and then relaxes, is told less well.
        """
        moved = np.maximum(differences @ self.first.T + self.bias, 0) - np.maximum(self.bias, 0)
        rises, intensities = np.split(moved @ self.last.T, 2, axis=-1)
        return Compared(rises, np.clip(intensities, -1, 1))


@dataclass(frozen=True, eq=False)
class Comparison:
    """The way in which levels are compared, and the limits from which on a change counts as a rise."""

    names: tuple[str, ...]
    """The K names of what changes: valence and arousal, then the action units, as far as they are answered."""

    limits: Mapping[str, float]
    """By name, where it was fitted: a rise."""

    estimator: ChangeEstimator | None
    """That of the task `unit_changes`. None: log-odds of units are compared, and changes are of probabilities."""

    @classmethod
    def of(
        cls, tasks: Collection[Task], calibration: Calibration, estimator: ChangeEstimator | None = None
    ) -> "Comparison":
        """Return the comparison for the tasks that a network, or several together, answer.

        `estimator` is given where `unit_changes` is among them.
        """
        has_units = not {"action_units", "unit_changes"}.isdisjoint(tasks)
        names = [*(AXES if "valence_arousal" in tasks else ()), *(ACTION_UNITS if has_units else ())]
        limits = calibration.change_limits.by_name
        return cls(tuple(names), {name: limits[name] for name in names if name in limits}, estimator)

    @property
    def width(self) -> int:
        """The number L of levels."""
        return len(self.names) if self.estimator is None else int(self._is_axis.sum()) + self.estimator.first.shape[1]

    def compare(self, baseline: Levels, levels: Levels) -> Compared:
        """Return levels [..., L] against a baseline [..., L]."""
        if self.estimator is None:
            rises = levels - baseline
            return Compared(rises, np.where(self._is_axis, rises, sigmoid(levels) - sigmoid(baseline)))
        axes, outputs = np.split(levels - baseline, [self._is_axis.sum()], axis=-1)
        units = self.estimator(outputs)
        return Compared(*(np.concatenate([axes, part], axis=-1) for part in (units.rises, units.values)))

    def compare_in_track(self, track: NDArray[np.float64], quantile: float = LOW_QUANTILE) -> Compared:
        """Return the levels of a track, float64 [T, L], against what is presumed to be its rest.

        A unit is at rest where it is low, so its rest is a low quantile of its log-odds, or with an estimator the mean
        of the faces around that quantile of its rises. Valence and arousal have no such side, so theirs is the median.
        There is at least one face.
        """
        middle = np.median(track, axis=0)
        if self.estimator is None:
            shares = np.where(self._is_axis, 0.5, quantile)
            columns = zip(track.T, shares.tolist(), strict=True)
            return self.compare(np.array([np.quantile(column, share) for column, share in columns]), track)
        compared = self._compare_parts(middle, track)
        for place in np.flatnonzero(~self._is_axis):
            # Outputs have no low side themselves, but rises above any face of the track have: rest is among the lowest.
            order = compared.rises[:, place].argsort(kind="stable")
            first, end = (round(each * quantile * len(order), 9) for each in (2 / 3, 4 / 3))  # 2 and not 1.9999...
            at_rest = order[int(first) : max(int(first) + 1, math.ceil(end))]
            again = self._compare_parts(track[at_rest].mean(axis=0), track)
            compared.rises[:, place] = again.rises[:, place]
            compared.values[:, place] = again.values[:, place]
        return compared

    def changes(self, baseline: Levels, levels: Levels) -> dict[str, Change]:
        """Return the change of a face against a baseline by name, both float64 [L]."""
        compared = self.compare(baseline, levels)
        return self._told(compared.rises, compared.values)

    def changes_in_track(self, track: NDArray[np.float64]) -> Iterator[dict[str, Change]]:
        """Yield the changes of each face of a track, levels float64 [T, L], as `compare_in_track` compares them."""
        compared = self.compare_in_track(track)
        for rises, values in zip(compared.rises, compared.values, strict=True):
            yield self._told(rises, values)

    @property
    def _is_axis(self) -> NDArray[np.bool_]:
        return np.isin(self.names, AXES)

    def _compare_parts(self, baseline: Levels, track: NDArray[np.float64]) -> Compared:
        parts = [self.compare(baseline, track[i : i + _PART]) for i in range(0, len(track), _PART)]
        return Compared(*(np.concatenate(each) for each in zip(*map(astuple, parts), strict=True)))

    def _told(self, rises: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, Change]:
        return {
            name: Change(value, rise > self.limits[name] if name in self.limits else None)
            for name, value, rise in zip(self.names, values.tolist(), rises.tolist(), strict=True)
        }


def levels_of(logits: Mapping[Task, NDArray[np.float64]], calibration: Calibration) -> NDArray[np.float64]:
    """Return the levels of B faces, float64 [B, L], by their raw outputs for tasks, each [B, d].

    They are what a Comparison for these tasks compares, of which at least one has levels: valence and arousal, then the
    outputs of `unit_changes`, or the log-odds of the twelve units.
    """
    parts = []
    if "valence_arousal" in logits:
        parts.append(calibration.valence_arousal_estimates(logits["valence_arousal"]))
    if "unit_changes" in logits:
        parts.append(logits["unit_changes"].astype(np.float64))
    elif "action_units" in logits:
        parts.append(calibration.unit_log_odds(logits["action_units"]))
    return np.concatenate(parts, axis=1)
