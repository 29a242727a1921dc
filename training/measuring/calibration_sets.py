"""Fitting one calibration on several sets, each of which has the same total weight unless told otherwise."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import (
    UNCALIBRATED_UNIT,
    AxisCalibration,
    Calibration,
    ExpressionCalibration,
    UnitCalibration,
)
from model_core.metrics import ece, top_label_ece
from training.data.mixture import Source
from training.measuring.fitting import (
    MIN_THRESHOLD_POSITIVES,
    ThresholdSearch,
    Weights,
    fit_axes,
    fit_expression,
    fit_unit,
    resting_threshold,
)
from training.measuring.scoring import Outputs

RESTING_SHARE = 0.05
"""A unit is active in less than this share of the neutral faces of each data set."""

Part: TypeAlias = tuple[NDArray[np.float64], NDArray[Any], float]
"""Outputs and targets of the faces of one set for a task, and the set's weight."""


@dataclass(frozen=True)
class CalibrationSet:
    """A network's outputs for the found faces of a set, and what is fitted on them."""

    source: Source
    """The faces with the tasks and the units whose targets are trusted; its share is the set's total weight."""
    outputs: Outputs
    """Of the found faces that calibration is fitted on."""
    neutral: NDArray[np.bool_] | None = None
    """bool [N]: True for the neutral faces of `outputs`, which bound the units' thresholds. None: they do not."""
    copies: bool = False
    """True for changed copies of another set's faces: they are fitted, but are not counted as further faces."""


def fit_sets(
    sets: Sequence[CalibrationSet], search: ThresholdSearch = "sorted", resting_share: float | None = None
) -> Calibration:
    """Fit each task on all sets that have targets for it: expressions on the majority sets.

    A set weighs by its share, however many faces it has. With `resting_share`, the threshold of a unit is the best one
    by F1, or the lowest one that less than this share of the neutral faces of each data set reach, whichever is higher;
    where there are too few faces with the unit to choose by F1, it is the latter. A set whose targets of a unit are not
    trusted does not fit it, but its neutral faces bound its threshold.
    """
    units = _units(sets, search)
    if units is not None and resting_share is not None:
        units = {name: _bounded(units[name], sets, i, resting_share) for i, name in enumerate(ACTION_UNITS)}
    return Calibration(_expression(sets), units, _axes(sets))


def _expression(sets: Sequence[CalibrationSet]) -> ExpressionCalibration | None:
    parts: list[Part] = []
    for each in sets:
        if each.outputs.expression is not None:
            actual = each.source.majority[each.outputs.rows]
            parts.append((each.outputs.expression[actual >= 0], actual[actual >= 0], each.source.share))
    pooled = _pooled(parts)
    return None if pooled is None else fit_expression(*pooled)


def _units(sets: Sequence[CalibrationSet], search: ThresholdSearch) -> dict[str, UnitCalibration] | None:
    known = [each.source.known_units[each.outputs.rows] for each in sets if each.outputs.action_units is not None]
    if not any(values.any() for values in known):
        return None
    units = {}
    for i, name in enumerate(ACTION_UNITS):
        parts: list[Part] = []
        copies: list[NDArray[np.bool_]] = []
        for each in sets:
            if each.outputs.action_units is not None:
                kept = each.source.known_units[each.outputs.rows, i]
                present = each.source.faces.units_present[each.outputs.rows, i]
                parts.append((each.outputs.action_units[kept, i], present[kept], each.source.share))
                copies.append(np.full(kept.sum(), each.copies))
        if pooled := _pooled(parts):
            logits, positive, weights = pooled
            units[name] = fit_unit(logits, positive, search, weights, np.concatenate(copies))
        else:
            units[name] = UNCALIBRATED_UNIT
    return units


def _bounded(unit: UnitCalibration, sets: Sequence[CalibrationSet], column: int, share: float) -> UnitCalibration:
    # Sets of one data set bound a threshold together: a share of few faces is a step of several per cent.
    resting: defaultdict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for each in sets:
        if each.outputs.action_units is not None and each.neutral is not None:
            resting[each.source.faces.info.dataset].append(each.outputs.action_units[each.neutral, column])
    limits = [resting_threshold(unit.probability(np.concatenate(parts)), share) for parts in resting.values()]
    positives = sum(
        int((each.source.faces.units_present & each.source.known_units)[each.outputs.rows, column].sum())
        for each in sets
        if not each.copies
    )
    too_few = positives < MIN_THRESHOLD_POSITIVES and unit != UNCALIBRATED_UNIT
    best = [] if too_few and limits else [unit.threshold]
    return replace(unit, threshold=max([*best, *limits]))


def _axes(sets: Sequence[CalibrationSet]) -> dict[str, AxisCalibration] | None:
    parts: list[Part] = []
    for each in sets:
        if each.outputs.valence_arousal is not None:
            kept = each.source.with_valence_arousal[each.outputs.rows]
            reference = each.source.faces.valence_arousal[each.outputs.rows].astype(np.float64)
            parts.append((each.outputs.valence_arousal[kept], reference[kept], each.source.share))
    pooled = _pooled(parts)
    return None if pooled is None else fit_axes(*pooled)


def _pooled(parts: Sequence[Part]) -> tuple[NDArray[np.float64], NDArray[Any], Weights] | None:
    """Return outputs, targets and weights of all parts that have faces; None where none has, no weights for one."""
    filled = [part for part in parts if len(part[0])]
    if not filled:
        return None
    outputs = np.concatenate([part[0] for part in filled])
    targets = np.concatenate([part[1] for part in filled])
    if len(filled) == 1:
        return outputs, targets, None
    weights = np.concatenate([np.full(len(part[0]), part[2] / len(part[0])) for part in filled])
    return outputs, targets, weights / weights.mean()


def describe(sets: Sequence[CalibrationSet], calibration: Calibration) -> list[str]:
    """Return a line for each set: the calibration errors on it, and how many neutral faces have an active unit."""
    lines = []
    for each in sets:
        line = f"{each.source.name}: {len(each.outputs.rows)} faces"
        rows = each.outputs.rows
        actual = each.source.faces.majority[rows]
        if each.outputs.expression is not None and (actual >= 0).any():
            probability = calibration.expression_probabilities(each.outputs.expression[actual >= 0])
            line += f", ECE of expressions {top_label_ece(probability, actual[actual >= 0]):.3f}"
        known = each.source.known_units[rows]
        if each.outputs.action_units is not None:
            units = calibration.unit_probabilities(each.outputs.action_units)
            present = each.source.faces.units_present[rows].astype(np.float64)
            errors = [ece(units[known[:, i], i], present[known[:, i], i]) for i in range(len(ACTION_UNITS))]
            defined = [error for error in errors if not np.isnan(error)]
            line += f", mean ECE of {len(defined)} units {np.mean(defined):.3f}" if defined else ""
            line += _at_rest(each, units, calibration)
        lines.append(line)
    return lines


def _at_rest(each: CalibrationSet, units: NDArray[np.float64], calibration: Calibration) -> str:
    if each.neutral is None or not each.neutral.any():
        return ""
    limits = np.array([calibration.unit(name).threshold for name in ACTION_UNITS])
    shares = (units[each.neutral] >= limits).mean(axis=0)
    most = list(ACTION_UNITS)[int(shares.argmax())]
    return f", of {int(each.neutral.sum())} neutral ones {most} is active in {shares.max():.3f}, no unit in more"
