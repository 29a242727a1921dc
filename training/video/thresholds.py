"""From which probability each action unit counts as present, tuned on videos that no number is reported on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from model_core.affect import ACTION_UNITS
from model_core.metrics import best_threshold
from training.measuring.fitting import MIN_THRESHOLD_POSITIVES, ThresholdSearch, grid_threshold
from training.video.predictions import ProtocolError, SequencePredictions, pool

Method: TypeAlias = ThresholdSearch | Literal["calibration"]
"""The search that found the thresholds; `calibration`: they were fitted with a run's calibration."""


@dataclass(frozen=True)
class Thresholds:
    """A threshold in [0, 1] for each of the twelve units, how they were found, and the videos they were tuned on."""

    units: Mapping[str, float]
    method: Method
    tuned_on: tuple[str, ...]

    def __post_init__(self) -> None:
        if tuple(self.units) != tuple(ACTION_UNITS):
            raise ProtocolError(f"thresholds must name the units {', '.join(ACTION_UNITS)}, in this order")
        if not all(0 <= value <= 1 for value in self.units.values()):
            raise ProtocolError("thresholds must lie within 0 and 1")
        if not self.tuned_on:
            raise ProtocolError("thresholds must name the videos that they were tuned on")


def tune_thresholds(
    held_out: Sequence[SequencePredictions],
    method: ThresholdSearch = "sorted",
    min_positives: int = MIN_THRESHOLD_POSITIVES,
) -> Thresholds:
    """The thresholds with the best F1 of each unit on `held_out`, pooled over its labelled frames.

    `grid` tries GRID; of equals, the one nearest to 0.5. `sorted` tries every score, and leaves 0.5 where a unit has
    fewer than `min_positives` positive frames. Raises ProtocolError without labelled frames, and for predictions that
    are decisions already, which have no threshold to find.
    """
    pooled = pool(held_out, "action_units")
    if pooled is None:
        raise ProtocolError("there are no labelled frames with predictions of action units to tune thresholds on")
    if np.isin(pooled.values, (0, 1)).all():
        raise ProtocolError("thresholds are tuned on probabilities, but every prediction is 0 or 1")
    units = {}
    for i, name in enumerate(ACTION_UNITS):
        counts = pooled.mask[:, i]
        probability, actual = pooled.values[counts, i], pooled.targets[counts, i] >= 0.5
        if not counts.any():
            units[name] = 0.5
        elif method == "grid":
            units[name] = grid_threshold(probability, actual)
        else:
            units[name] = best_threshold(probability, actual, max(1, min_positives))
    return Thresholds(units, method, tuple(sorted({each.video for each in held_out})))
