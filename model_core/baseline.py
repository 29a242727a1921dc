"""A person's own baseline: by how much a face has changed against the same face at rest.

Compared are levels: valence and arousal as they are, and action units by the outputs that a network has for changes
(the task `unit_changes`). These ignore what differs between people, so that movements show, and the tanh of their
difference estimates by how much the unit's intensity changed. Of a network without them, the units' calibrated log-odds
are compared, since a difference of probabilities is blind where both are near 0 or 1. One use::

    comparison = Comparison.of(("valence_arousal", "action_units"), calibration)
    change = comparison.changes(levels_at_rest, levels)["AU12"]
    print(change.value, change.rose)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from model_core.calibration import AXES, Calibration, sigmoid

Levels: TypeAlias = NDArray[np.float64]
"""The levels of one face, float64 [K], in the order of a Comparison's names. Their mean over time is a baseline."""

LOW_QUANTILE = 0.3
"""Quantile of a unit's log-odds over a track that `resting_levels` takes for its level at rest.

A unit that moves for a share m of the time is at rest for the others, of which this is the quantile 0.3 / (1 - m): the
middle for 40 %, and never far below it. A quantile of 0.1 is the lower edge of a unit that hardly moves, against which
rest itself would seem a rise.
"""


@dataclass(frozen=True)
class Change:
    """The difference of a face to its baseline, for valence, arousal or an action unit."""

    value: float
    """Of an axis the difference of the estimates, in [-2, 2]. Of a unit the estimated difference of its intensities, in
    [-1, 1], or without the task `unit_changes` the difference of its calibrated probabilities."""

    rose: bool | None
    """True if it rose by more than the same face at rest does by itself; None where that limit was not fitted."""


@dataclass(frozen=True)
class Comparison:
    """The names of the levels that are compared, and the limits from which on a change counts as a rise."""

    names: tuple[str, ...]
    """Valence and arousal, then the action units, as far as they are answered."""

    limits: Mapping[str, float]
    """By name, where it was fitted: a difference of levels."""

    intensities: bool
    """True if a unit's change is one of its intensity, from the task `unit_changes`, and not one of probabilities."""

    @classmethod
    def of(cls, tasks: Collection[Task], calibration: Calibration) -> "Comparison":
        """Return the comparison for the tasks that a network, or several together, answer."""
        has_units = not {"action_units", "unit_changes"}.isdisjoint(tasks)
        names = [*(AXES if "valence_arousal" in tasks else ()), *(ACTION_UNITS if has_units else ())]
        limits = calibration.change_limits.by_name
        fitted = {name: limits[name] for name in names if name in limits}
        return cls(tuple(names), fitted, intensities="unit_changes" in tasks)

    def changes(self, baseline: Levels, levels: Levels) -> dict[str, Change]:
        """Return the change of each level against a baseline, both float64 [K], by name."""
        rises = dict(zip(self.names, (levels - baseline).tolist(), strict=True))
        values = dict(zip(self.names, self._values(baseline, levels).tolist(), strict=True))
        return {
            name: Change(values[name], rises[name] > self.limits[name] if name in self.limits else None)
            for name in self.names
        }

    def resting_levels(self, track: NDArray[np.float64], quantile: float = LOW_QUANTILE) -> Levels:
        """Return the presumed levels at rest, float64 [K], of a face whose levels over time are float64 [T, K].

        A unit is at rest where it is low, so its level is a low quantile. Valence and arousal have no such side, so
        theirs is the median. There is at least one level; quantiles are interpolated.
        """
        quantiles = [0.5 if name in AXES else quantile for name in self.names]
        columns = zip(track.T, quantiles, strict=True)
        return np.array([np.quantile(column, share) for column, share in columns], dtype=np.float64)

    def _values(self, baseline: Levels, levels: Levels) -> Levels:
        """Return the values of changes, as an answer tells them."""
        is_axis = np.isin(self.names, AXES)
        return np.where(is_axis, levels - baseline, unit_change_values(baseline, levels, self.intensities))


def unit_change_values(baseline: Levels, levels: Levels, intensities: bool) -> Levels:
    """Return the values of units' changes, float64 [...] in [-1, 1], for levels; see `Comparison.intensities`."""
    return np.tanh(levels - baseline) if intensities else sigmoid(levels) - sigmoid(baseline)


def levels_of(logits: Mapping[Task, NDArray[np.float64]], calibration: Calibration) -> NDArray[np.float64]:
    """Return the levels of B faces, float64 [B, K], by their raw outputs for tasks, each [B, d].

    The columns are those of a Comparison for these tasks, of which at least one has levels.
    """
    parts = []
    if "valence_arousal" in logits:
        parts.append(calibration.valence_arousal_estimates(logits["valence_arousal"]))
    if "unit_changes" in logits:
        parts.append(calibration.unit_change_levels(logits["unit_changes"]))
    elif "action_units" in logits:
        parts.append(calibration.unit_log_odds(logits["action_units"]))
    return np.concatenate(parts, axis=1)
