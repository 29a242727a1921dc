"""Calibration, which maps raw outputs to probabilities and estimates by numbers that were fitted on validation data.

The fitting is done by `training.calibrate`. The order of serving is: smooth the logits, calibrate, apply thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ExpressionCalibration:
    """Temperature scaling with biases: softmax(logits / temperature + bias).

    Source: Guo et al., ICML 2017, for the temperature. Raises ValueError for impossible numbers.
    """

    temperature: float
    """Positive; 1 leaves the logits as they are."""

    bias: tuple[float, ...]
    """One finite bias for each label; 0 leaves the logits as they are."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not np.isfinite((self.temperature, *self.bias)).all():
            raise ValueError("the temperature must be positive, and every bias finite")

    def probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """Return probabilities, float64 [B, C] with rows that sum to 1, for logits [B, C]."""
        scaled = logits.astype(np.float64) / self.temperature + np.array(self.bias)
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class UnitCalibration:
    """Platt scaling of one action unit's logit z: sigmoid(slope z + intercept).

    Source: Platt 1999. Raises ValueError for impossible numbers.
    """

    slope: float
    intercept: float

    threshold: float
    """Probability in [0, 1] from which the unit counts as active."""

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.intercept)).all() or not 0 <= self.threshold <= 1:
            raise ValueError("slope and intercept must be finite, and the threshold must lie within 0 and 1")

    def log_odds(self, logits: Floats) -> NDArray[np.float64]:
        """Return the logarithms of the calibrated odds p / (1 - p), float64 [...], for logits [...]."""
        return np.asarray(self.slope * logits.astype(np.float64) + self.intercept)

    def probability(self, logits: Floats) -> NDArray[np.float64]:
        """Return probabilities, float64 [...] in [0, 1], for logits [...]."""
        return sigmoid(self.log_odds(logits))


def sigmoid(log_odds: Floats) -> NDArray[np.float64]:
    """Return probabilities, float64 [...] in [0, 1], for their log-odds [...]."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds.astype(np.float64), -500, 500))))


@dataclass(frozen=True)
class AxisCalibration:
    """A linear map of valence or arousal, clipped to [-1, 1]: slope x + intercept.

    Raises ValueError for impossible numbers.
    """

    slope: float
    intercept: float

    half_width: float
    """Half-width, in [0, 2], of the interval around the estimate that covers 90 % of the calibration references."""

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.intercept)).all() or not 0 <= self.half_width <= 2:
            raise ValueError("slope and intercept must be finite, and the half-width must lie within 0 and 2")

    def estimate(self, values: Floats) -> NDArray[np.float64]:
        """Return estimates, float64 [...] in [-1, 1], for raw outputs [...]."""
        return np.clip(self.slope * values.astype(np.float64) + self.intercept, -1, 1)


AXES = ("valence", "arousal")
"""Names of the axes, in the order of the outputs."""

UNCALIBRATED_UNIT = UnitCalibration(slope=1.0, intercept=0.0, threshold=0.5)
"""The identity: a plain sigmoid, with a threshold of one half."""


def _require_names(values: Mapping[str, object] | None, names: tuple[str, ...], kind: str) -> None:
    if values is not None and tuple(values) != names:
        raise ValueError(f"a calibration must name the {kind} {', '.join(names)}, in this order")


@dataclass(frozen=True)
class ChangeLimits:
    """The rises of the same face at rest above its own baseline that 5 % of them exceed.

    A task whose field is None was not fitted. Raises ValueError for impossible numbers.
    """

    valence_arousal: Mapping[str, float] | None = None
    """By name, exactly the axes of AXES in their order: a difference of estimates, in [0, 2]."""

    action_units: Mapping[str, float] | None = None
    """By name, exactly the units of ACTION_UNITS in their order: a rise of `model_core.baseline`, at least 0."""

    def __post_init__(self) -> None:
        _require_names(self.valence_arousal, AXES, "axes")
        _require_names(self.action_units, tuple(ACTION_UNITS), "units")
        if not all(0 <= limit < np.inf for limit in self.by_name.values()):
            raise ValueError("a limit of a change must be finite and at least 0")

    @property
    def by_name(self) -> Mapping[str, float]:
        """The limits of all axes and units that were fitted, by name."""
        return {**(self.valence_arousal or {}), **(self.action_units or {})}


@dataclass(frozen=True)
class Calibration:
    """The calibration of all tasks. A task whose field is None was not fitted, and gets the identity."""

    expression: ExpressionCalibration | None = None

    action_units: Mapping[str, UnitCalibration] | None = None
    """By name, exactly the units of ACTION_UNITS in their order, else ValueError."""

    valence_arousal: Mapping[str, AxisCalibration] | None = None
    """By name, exactly the axes of AXES in their order, else ValueError."""

    change_limits: ChangeLimits = ChangeLimits()
    """From where on a change against a person's own baseline counts as a rise."""

    eyes_closed: UnitCalibration | None = None

    def __post_init__(self) -> None:
        _require_names(self.valence_arousal, AXES, "axes")
        _require_names(self.action_units, tuple(ACTION_UNITS), "units")

    def fitted(self, task: Task) -> bool:
        """Return whether a task was calibrated. Of changes, whose estimates need no map, the limits count."""
        part = self.change_limits.action_units if task == "unit_changes" else getattr(self, task)
        return part is not None

    def unit(self, name: str) -> UnitCalibration:
        """Return the calibration of an action unit, which is UNCALIBRATED_UNIT if none was fitted."""
        return self.action_units[name] if self.action_units else UNCALIBRATED_UNIT

    def valence_arousal_estimates(self, values: Floats) -> NDArray[np.float64]:
        """Return valence and arousal, float64 [B, 2] in [-1, 1], for raw outputs [B, 2] in [-1, 1]."""
        if self.valence_arousal is None:
            return values.astype(np.float64)
        axes = self.valence_arousal.values()
        return np.stack([axis.estimate(values[:, i]) for i, axis in enumerate(axes)], axis=1)

    def expression_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """Return expression probabilities, float64 [B, C] with rows that sum to 1, for logits [B, C]."""
        identity = ExpressionCalibration(1.0, (0.0,) * logits.shape[1])
        return (self.expression or identity).probabilities(logits)

    def unit_log_odds(self, logits: Floats) -> NDArray[np.float64]:
        """Return the units' calibrated log-odds, float64 [B, 12], for logits [B, 12] in the order of ACTION_UNITS."""
        columns: Sequence[Floats] = [self.unit(name).log_odds(logits[:, i]) for i, name in enumerate(ACTION_UNITS)]
        return np.stack(columns, axis=1).astype(np.float64)

    def unit_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """Return the units' probabilities, float64 [B, 12], for logits [B, 12] in the order of ACTION_UNITS."""
        return sigmoid(self.unit_log_odds(logits))
