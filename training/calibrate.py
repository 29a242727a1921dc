"""`python -m training.calibrate`: fit a run's calibration and thresholds on the validation split."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_core.affect import ACTION_UNITS
from model_core.bundle import BundleError
from model_core.calibration import (
    AXES,
    UNCALIBRATED_UNIT,
    AxisCalibration,
    Calibration,
    ExpressionCalibration,
    UnitCalibration,
)
from model_core.metrics import best_threshold
from training.checkpoint import CheckpointError
from training.datasets import DatasetError
from training.prepared import PreparedFaces, load_prepared
from training.scoring import POSITIVE_SCORE, Outputs, collect
from training.trained import load_evaluable, require_match, write_calibration

MIN_POSITIVES = 20
"""Fewer positives than this cannot support a fit: the unit keeps its plain sigmoid and a threshold of 0.5."""

MIN_THRESHOLD_POSITIVES = 100
"""Fewer cannot support the search for a threshold either, which would settle at a few per cent: it stays 0.5."""

COVERAGE = 0.9
"""Share of the fitted faces whose reference lies within an axis's interval."""

BIAS_PENALTY = 0.01
"""Ridge on the expression biases, so that a class with a dozen samples does not set its own bias freely."""


def fit_expression(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> ExpressionCalibration:
    """Temperature and class bias that minimise the penalised cross-entropy of logits [N, C] against labels [N]."""
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        return F.cross_entropy(z / log_temperature.exp() + bias, y) + BIAS_PENALTY * bias.square().mean()

    _minimise(objective, [log_temperature, bias])
    centred = (bias - bias.mean()).detach()  # a common shift changes nothing
    return ExpressionCalibration(float(log_temperature.detach().exp()), tuple(centred.tolist()))


def fit_unit(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> UnitCalibration:
    """Platt's slope and intercept for logits [N], and the threshold with the best F1 on the calibrated signal."""
    if min(int(positive.sum()), int((~positive).sum())) < MIN_POSITIVES:
        return UNCALIBRATED_UNIT
    z = torch.from_numpy(logits)
    # Platt (1999): targets a little inside 0 and 1 keep the fit finite when the classes separate.
    n_positive = int(positive.sum())
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (len(positive) - n_positive + 2)
    y = torch.from_numpy(np.where(positive, high, low))
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)
    _minimise(lambda: F.binary_cross_entropy_with_logits(slope * z + intercept, y), [slope, intercept])
    fitted = UnitCalibration(float(slope.detach()), float(intercept.detach()), 0.5)
    threshold = best_threshold(fitted.probability(logits), positive, MIN_THRESHOLD_POSITIVES)
    return UnitCalibration(fitted.slope, fitted.intercept, threshold)


def fit_axis(estimates: NDArray[np.float64], reference: NDArray[np.float64]) -> AxisCalibration | None:
    """The affine map of estimates [N] with the highest concordance: it gives them the reference's mean and spread.

    Least squares would draw them together, by as much as they are uncertain. None without spread in either.
    """
    spread, wanted = float(estimates.std()), float(reference.std())
    if min(spread, wanted) < 1e-6:
        return None
    slope = wanted / spread
    exact = AxisCalibration(slope, float(reference.mean() - slope * estimates.mean()), 0.0)
    errors = np.abs(exact.estimate(estimates) - reference)
    return replace(exact, half_width=float(np.quantile(errors, COVERAGE)))


def fit(faces: PreparedFaces, outputs: Outputs) -> Calibration:
    """Fit every task that the outputs hold: expressions on the majority set, others where they have targets."""
    expression, units, axes = None, None, None
    if outputs.expression is not None:
        actual = faces.majority[outputs.rows]
        expression = fit_expression(outputs.expression[actual >= 0], actual[actual >= 0])
    derived = faces.derived[outputs.rows]
    if outputs.action_units is not None and derived.any():
        positive = faces.action_units[outputs.rows][derived] >= POSITIVE_SCORE
        logits = outputs.action_units[derived]
        units = {name: fit_unit(logits[:, i], positive[:, i]) for i, name in enumerate(ACTION_UNITS)}
    known = faces.with_valence_arousal[outputs.rows]
    if outputs.valence_arousal is not None and known.any():
        reference = faces.valence_arousal[outputs.rows][known].astype(np.float64)
        estimates = outputs.valence_arousal[known]
        fitted = {name: fit_axis(estimates[:, i], reference[:, i]) for i, name in enumerate(AXES)}
        whole = {name: axis for name, axis in fitted.items() if axis is not None}
        axes = whole if len(whole) == len(AXES) else None
    return Calibration(expression, units, axes)


def _minimise(objective: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt")
    parser.add_argument("--prepared", required=True, type=Path)
    args = parser.parse_args()
    try:
        faces, evaluable = load_prepared(args.prepared), load_evaluable(args.run)
        require_match(evaluable, faces)
    except (BundleError, CheckpointError, DatasetError) as error:
        sys.exit(f"error: {error}")
    rows = faces.indices("validation")
    calibration = fit(faces, collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu")))
    write_calibration(args.run, calibration)
    print(f"fitted on {len(rows)} validation faces: {args.run / 'calibration.json'}")


if __name__ == "__main__":
    main()
