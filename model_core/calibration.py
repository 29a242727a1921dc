"""From logits to probabilities that mean what they say: the fitted numbers of a bundle and how they are applied.

Fitting lives in training/calibrate.py. Served in this order: smooth logits -> calibrate -> threshold (PAPER section 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ExpressionCalibration:
    """softmax(logits / temperature + bias), with a bias for each label. The identity is temperature 1, bias 0."""

    temperature: float
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not np.isfinite((self.temperature, *self.bias)).all():
            raise ValueError("temperature must be positive, and every bias finite")

    def probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """[B, C] -> float64 [B, C], rows that sum to 1."""
        scaled = logits.astype(np.float64) / self.temperature + np.array(self.bias)
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class UnitCalibration:
    """One action unit: Platt scaling sigmoid(slope z + intercept), active from `threshold` on."""

    slope: float
    intercept: float
    threshold: float

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.intercept)).all() or not 0 <= self.threshold <= 1:
            raise ValueError("slope and intercept must be finite, the threshold within 0 and 1")

    def probability(self, logits: Floats) -> NDArray[np.float64]:
        """[...] -> float64 [...] in [0, 1]."""
        exponent = np.clip(self.slope * logits.astype(np.float64) + self.intercept, -500, 500)
        return np.asarray(1 / (1 + np.exp(-exponent)))


@dataclass(frozen=True)
class AxisCalibration:
    """Valence or arousal: slope x + intercept, within [-1, 1].

    half_width: of the interval around it that held the reference of 90 per cent of the faces it was fitted on.
    """

    slope: float
    intercept: float
    half_width: float

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.intercept)).all() or not 0 <= self.half_width <= 2:
            raise ValueError("slope and intercept must be finite, the half width within 0 and 2")

    def estimate(self, values: Floats) -> NDArray[np.float64]:
        """[...] -> float64 [...] in [-1, 1]."""
        return np.clip(self.slope * values.astype(np.float64) + self.intercept, -1, 1)


AXES = ("valence", "arousal")

UNCALIBRATED_UNIT = UnitCalibration(slope=1.0, intercept=0.0, threshold=0.5)


@dataclass(frozen=True)
class Calibration:
    """What a bundle applies to its logits; None means that a task was not fitted, and its logits are taken plainly."""

    expression: ExpressionCalibration | None = None
    action_units: Mapping[str, UnitCalibration] | None = None
    valence_arousal: Mapping[str, AxisCalibration] | None = None

    def __post_init__(self) -> None:
        if self.valence_arousal is not None and tuple(self.valence_arousal) != AXES:
            raise ValueError(f"calibration must name the axes {', '.join(AXES)}, in this order")
        if self.action_units is not None and tuple(self.action_units) != tuple(ACTION_UNITS):
            raise ValueError(f"calibration must name the units {', '.join(ACTION_UNITS)}, in this order")

    def unit(self, name: str) -> UnitCalibration:
        """The calibration of an action unit, the identity where none was fitted."""
        return self.action_units[name] if self.action_units else UNCALIBRATED_UNIT

    def valence_arousal_estimates(self, values: Floats) -> NDArray[np.float64]:
        """[B, 2] -> float64 [B, 2] in [-1, 1]."""
        if self.valence_arousal is None:
            return values.astype(np.float64)
        axes = self.valence_arousal.values()
        return np.stack([axis.estimate(values[:, i]) for i, axis in enumerate(axes)], axis=1)

    def expression_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """[B, C] -> float64 [B, C]."""
        identity = ExpressionCalibration(1.0, (0.0,) * logits.shape[1])
        return (self.expression or identity).probabilities(logits)

    def unit_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """[B, 12] -> float64 [B, 12]."""
        columns: Sequence[Floats] = [self.unit(name).probability(logits[:, i]) for i, name in enumerate(ACTION_UNITS)]
        return np.stack(columns, axis=1).astype(np.float64)
