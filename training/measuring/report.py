"""The measures of a network on a split, as a value that prints, and that a bundle can carry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import AXES, Calibration
from model_core.metrics import accuracy, auroc, binary_f1, brier, ccc, ece, macro_f1, pearson, top_label_ece
from training.data.prepared import PreparedFaces
from training.measuring.answers import Answers, answers_of
from training.measuring.bootstrap import intervals
from training.measuring.scoring import POSITIVE_SCORE, Outputs

MIN_CLASS_SIZE = 50
"""A class, or a unit, with fewer faces is reported, and left out of the means that say so."""

F1_UNITS = ("AU1", "AU2", "AU4", "AU7", "AU10", "AU12", "AU15", "AU24", "AU25", "AU26")
"""The units of the mean F1."""

_COMPARISONS = {"f1_at_half", "ece_before", "brier"}  # shown beside the measures that count, without intervals


@dataclass(frozen=True)
class Scope:
    """What the means are over, fixed on the whole sample: a resample must not choose anew.

    classes: name of a macro F1 -> positions of its labels. units: the counted units.
    """

    classes: Mapping[str, Sequence[int]]
    units: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Plain JSON values by task; what could not be measured is absent.

    intervals: [low, high] with 95 % coverage at the same keys as the measures. groups: what `measure_groups` returns.
    """

    faces: dict[str, Any]
    expression: dict[str, Any] = field(default_factory=dict)
    valence_arousal: dict[str, Any] = field(default_factory=dict)
    action_units: dict[str, Any] = field(default_factory=dict)
    action_units_mean: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)


def measure(
    faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, calibration: Calibration, resamples: int = 0
) -> Report:
    """All measures of `outputs` on the split `rows`; with `resamples`, their bootstrap intervals over the faces."""
    answers = answers_of(faces, rows, outputs, calibration)
    counts = {"count": len(rows), "found": len(outputs.rows), "with_derived_targets": int(answers.derived.sum())}
    if answers.annotated is not None:
        counts["with_annotated_valence_arousal"] = int(answers.annotated.sum())
    scope = whole_scope(answers)

    def resampled(index: NDArray[np.int64]) -> dict[str, Any]:
        values = measures(answers.take(index), scope)
        units = {name: _without_comparisons(unit) for name, unit in values["action_units"].items()}
        return {**values, "expression": _without_comparisons(values["expression"]), "action_units": units}

    return Report(
        faces={"dataset": faces.info.dataset, "split": str(faces.splits[rows[0]]), **counts},
        **measures(answers, scope),
        intervals=intervals(resampled, len(answers), resamples),
    )


def whole_scope(answers: Answers) -> Scope:
    """All labels, all but contempt, and those with enough faces; the units with enough positives."""
    positives = (answers.unit_targets[answers.derived] >= POSITIVE_SCORE).sum(axis=0)
    sizes = np.bincount(answers.majority[answers.majority >= 0], minlength=len(answers.labels))
    classes = range(len(sizes))
    groups = {
        f"macro_f1_{len(classes)}": list(classes),
        "macro_f1_without_contempt": [c for c in classes if answers.labels[c] != "contempt"],
        f"macro_f1_at_least_{MIN_CLASS_SIZE}": [c for c in classes if sizes[c] >= MIN_CLASS_SIZE],
    }
    units = tuple(name for name, count in zip(ACTION_UNITS, positives, strict=True) if count >= MIN_CLASS_SIZE)
    return Scope({name: group for name, group in groups.items() if group}, units)


def measures(answers: Answers, scope: Scope) -> dict[str, dict[str, Any]]:
    """The measures by task, empty where there is nothing to measure, with the names of Report's fields."""
    units = _action_units(answers)
    return {
        "expression": _expression(answers, scope.classes),
        "valence_arousal": _valence_arousal(answers),
        "action_units": units,
        "action_units_mean": _means(units, scope.units),
    }


def _expression(answers: Answers, groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """On the majority set; a face not found is a wrong answer, and takes no part in calibration error."""
    kept = answers.majority >= 0
    if answers.expression is None or answers.expression_plain is None or not kept.any():
        return {}
    actual = answers.majority[kept]
    predicted = np.where(answers.found, answers.expression.argmax(axis=1), -1)[kept]
    seen, errors = kept & answers.found, {}
    if seen.any():
        errors = {
            "ece_before": top_label_ece(answers.expression_plain[seen], answers.majority[seen]),
            "ece": top_label_ece(answers.expression[seen], answers.majority[seen]),
        }
    sizes = np.bincount(actual, minlength=len(answers.labels))
    return {
        "count": len(actual),
        "accuracy": accuracy(predicted, actual),
        **{name: macro_f1(predicted, actual, group) for name, group in groups.items()},
        **errors,
        "f1": {label: binary_f1(predicted == c, actual == c) for c, label in enumerate(answers.labels)},
        "support": dict(zip(answers.labels, sizes.tolist(), strict=True)),
    }


def _valence_arousal(answers: Answers) -> dict[str, Any]:
    """Concordance with the targets, beside that of looking the expression probabilities up in the table.

    `within_interval`: the share of targets inside the stated interval.
    """
    known = answers.with_valence_arousal
    if answers.valence_arousal is None or not known.any():
        return {}
    target = answers.va_targets[known]
    values = {}
    for estimates, suffix in ((answers.valence_arousal, ""), (answers.va_table, "_table")):
        if estimates is not None:
            for i, name in enumerate(AXES):
                values[f"ccc_{name}{suffix}"] = ccc(estimates[known, i], target[:, i])
    for i, half_width in enumerate(answers.va_half_widths or ()):
        errors = np.abs(answers.valence_arousal[known, i] - target[:, i])
        values[f"within_interval_{AXES[i]}"] = float((errors <= half_width).mean())
    return values


def _action_units(answers: Answers) -> dict[str, Any]:
    """Against the teacher; `pearson` compares plain sigmoids with its scores, the rest its decision at 0.3."""
    if answers.unit_logits is None or answers.units is None or answers.units_plain is None or not answers.derived.any():
        return {}
    # Columns in one piece: every measure runs along them, a thousand times for the intervals.
    arrays = (answers.unit_targets, answers.unit_logits, answers.units, answers.units_plain)
    scores, logits, calibrated, uncalibrated = (np.ascontiguousarray(values[answers.derived].T) for values in arrays)
    units = {}
    for i, name in enumerate(ACTION_UNITS):
        positive, probability, plain = scores[i] >= POSITIVE_SCORE, calibrated[i], uncalibrated[i]
        outcome = positive.astype(np.float64)
        values = {
            "positives": int(positive.sum()),
            "pearson": pearson(plain, scores[i]),
            "auroc": auroc(logits[i], positive),
            "f1_at_half": binary_f1(probability >= 0.5, positive),
            "f1": binary_f1(probability >= answers.thresholds[i], positive),
            "ece_before": ece(plain, outcome),
            "ece": ece(probability, outcome),
            "brier": brier(probability, outcome),
        }
        units[name] = {key: value for key, value in values.items() if not np.isnan(value)}
    return units


def _means(units: Mapping[str, Mapping[str, float]], counted: Sequence[str]) -> dict[str, Any]:
    """Means over the `counted` units, F1 over those of them in F1_UNITS; absent where one of them is undefined."""
    if not units:
        return {}
    for_f1 = [name for name in counted if name in F1_UNITS]
    means: dict[str, Any] = {"units": list(counted), "f1_units": for_f1}
    for key, names in (("pearson", counted), ("auroc", counted), ("f1", for_f1), ("ece", counted)):
        values = [units[name][key] for name in names if key in units[name]]
        if values and len(values) == len(names):
            means[key] = float(np.mean(values))
    return means


def _without_comparisons(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _COMPARISONS}
