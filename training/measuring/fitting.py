"""Fitting calibrations: temperature and bias of expressions, Platt scaling of units, affine maps of valence-arousal.

Where samples have weights, these are positive, float64 [N], with a mean of 1.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_core.calibration import (
    AXES,
    UNCALIBRATED_UNIT,
    AxisCalibration,
    ExpressionCalibration,
    UnitCalibration,
)
from model_core.metrics import best_threshold, binary_f1

ThresholdSearch: TypeAlias = Literal["sorted", "grid"]
"""`sorted` tries every score; `grid` the candidates of the paper, GRID."""

GRID = tuple(step / 10 for step in range(1, 10))
"""The paper's candidates for a unit's threshold (arXiv 2503.12260, section 5)."""

MIN_POSITIVES = 20
"""With fewer positives or negatives a unit is not fitted; it keeps its plain sigmoid and a threshold of 0.5."""

MIN_THRESHOLD_POSITIVES = 100
"""With fewer positives the threshold stays 0.5, since a search for the best one would settle at a few per cent."""

COVERAGE = 0.9
"""Share of the calibration references that an axis's interval covers."""

BIAS_PENALTY = 0.01
"""Ridge penalty on the expression biases, so that a class with a dozen samples does not set its bias freely."""


Weights: TypeAlias = NDArray[np.float64] | None


def fit_expression(
    logits: NDArray[np.float64], labels: NDArray[np.int64], weights: Weights = None
) -> ExpressionCalibration:
    """Return the temperature and biases that minimise the penalised cross-entropy of logits [N, C] and labels [N]."""
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        losses = F.cross_entropy(z / log_temperature.exp() + bias, y, reduction="none")
        return _mean(losses, weights) + BIAS_PENALTY * bias.square().mean()

    minimise(objective, [log_temperature, bias])
    centred = (bias - bias.mean()).detach()  # a common shift changes nothing
    return ExpressionCalibration(float(log_temperature.detach().exp()), tuple(centred.tolist()))


def fit_unit(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    search: ThresholdSearch = "sorted",
    weights: Weights = None,
    copies: NDArray[np.bool_] | None = None,
) -> UnitCalibration:
    """Return Platt's slope and intercept for logits [N], and the probability threshold with the best F1.

    `copies`, bool [N], is True for changed copies of other samples, which are fitted, but do not count as further ones.
    """
    counted = positive if copies is None else positive[~copies]
    n_positive = int(counted.sum())
    n_negative = len(counted) - n_positive
    if min(n_positive, n_negative) < MIN_POSITIVES:
        return UNCALIBRATED_UNIT
    z = torch.from_numpy(logits)
    # Targets a little inside 0 and 1 keep the fit finite where the classes separate (Platt, 1999).
    high = (n_positive + 1) / (n_positive + 2)
    low = 1 / (n_negative + 2)
    y = torch.from_numpy(np.where(positive, high, low))
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        losses = F.binary_cross_entropy_with_logits(slope * z + intercept, y, reduction="none")
        return _mean(losses, weights)

    minimise(objective, [slope, intercept])
    fitted = UnitCalibration(float(slope.detach()), float(intercept.detach()), 0.5)
    probability = fitted.probability(logits)
    if search == "grid":
        threshold = grid_threshold(probability, positive, weights)
    elif n_positive < MIN_THRESHOLD_POSITIVES:
        threshold = 0.5
    else:
        threshold = best_threshold(probability, positive, weights=weights)
    return UnitCalibration(fitted.slope, fitted.intercept, threshold)


def grid_threshold(probability: NDArray[np.float64], positive: NDArray[np.bool_], weights: Weights = None) -> float:
    """Return the candidate of GRID with the best F1 on probabilities [N]; of equals, the one nearest to 0.5."""
    f1 = [binary_f1(probability >= threshold, positive, weights) for threshold in GRID]
    best = [threshold for threshold, value in zip(GRID, f1, strict=True) if value == max(f1)]
    return min(best, key=lambda threshold: abs(threshold - 0.5))


def resting_threshold(probability: NDArray[np.float64], share: float) -> float:
    """Return the lowest threshold that less than `share` of the probabilities [N] of faces at rest reach.

    It lies half-way between two scores, or just above the highest one; 0 for no faces.
    """
    if not len(probability):
        return 0.0
    scores = np.sort(probability)[::-1]
    allowed = math.ceil(share * len(scores)) - 1
    too_high = scores[max(0, allowed)]
    above = scores[scores > too_high]
    return float((too_high + above[-1]) / 2) if len(above) else min(1.0, float(too_high) + 1e-6)


def fit_axis(
    estimates: NDArray[np.float64], reference: NDArray[np.float64], weights: Weights = None
) -> AxisCalibration | None:
    """Return the affine map that gives estimates [N] the reference's mean and spread, which maximises concordance.

    A least-squares map would shrink the estimates by as much as they are uncertain. None where either has no spread.
    """
    mean, spread = _moments(estimates, weights)
    wanted_mean, wanted_spread = _moments(reference, weights)
    if min(spread, wanted_spread) < 1e-6:
        return None
    slope = wanted_spread / spread
    exact = AxisCalibration(slope, wanted_mean - slope * mean, 0.0)
    errors = np.abs(exact.estimate(estimates) - reference)
    if weights is None:
        return replace(exact, half_width=float(np.quantile(errors, COVERAGE)))
    return replace(exact, half_width=float(np.quantile(errors, COVERAGE, weights=weights, method="inverted_cdf")))


def _moments(values: NDArray[np.float64], weights: Weights) -> tuple[float, float]:
    """Return the mean and the standard deviation of values [N]."""
    mean = np.average(values, weights=weights)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def fit_axes(
    estimates: NDArray[np.float64], reference: NDArray[np.float64], weights: Weights = None
) -> dict[str, AxisCalibration] | None:
    """Return `fit_axis` of both columns of [N, 2], or None where one of them has none."""
    fitted = {name: fit_axis(estimates[:, i], reference[:, i], weights) for i, name in enumerate(AXES)}
    whole = {name: axis for name, axis in fitted.items() if axis is not None}
    return whole if len(whole) == len(AXES) else None


def _mean(losses: Tensor, weights: Weights) -> Tensor:
    return losses.mean() if weights is None else (losses * torch.from_numpy(weights)).mean()


def minimise(objective: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """Change the parameters until the objective, which is smooth, is smallest nearby."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
