"""The measures of a network on a split, as plain JSON values that a bundle can carry."""

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
from training.measuring.bootstrap import UpwardBiased, WithoutInterval, intervals
from training.measuring.scoring import Outputs

MIN_CLASS_SIZE = 50
"""A class, or a unit, with fewer faces is reported, but left out of the means that say so."""

F1_UNITS = ("AU1", "AU2", "AU4", "AU7", "AU10", "AU12", "AU15", "AU24", "AU25", "AU26")
"""The units over which the mean F1 is taken."""


@dataclass(frozen=True)
class Scope:
    """The classes and units of the means. They are chosen on the whole sample, so that all resamples share them."""

    classes: Mapping[str, Sequence[int]]
    """The positions of the labels of each macro F1, by its name."""
    units: tuple[str, ...]
    """The units that the means are over."""


@dataclass(frozen=True)
class Report:
    """Measures by task, as plain JSON values; a measure that is undefined is absent."""

    faces: dict[str, Any]
    """The data set, the split, and how many of its faces count."""
    expression: dict[str, Any] = field(default_factory=dict)
    """Accuracy, macro F1, calibration error, and F1 and support by class."""
    valence_arousal: dict[str, Any] = field(default_factory=dict)
    """Concordance of both axes, and the coverage of the stated intervals."""
    action_units: dict[str, Any] = field(default_factory=dict)
    """The measures of each unit, by its name."""
    action_units_mean: dict[str, Any] = field(default_factory=dict)
    """Means over units, with the names of those that count."""
    intervals: dict[str, Any] = field(default_factory=dict)
    """95 % intervals [low, high], at the same keys as the measures."""
    groups: dict[str, Any] = field(default_factory=dict)
    """Measures by group of faces, as `measure_groups` returns them."""
    rendered: dict[str, Any] = field(default_factory=dict)
    """Measures of rendered faces alone, as `measure_rendered` returns them."""
    eyes_closed: dict[str, Any] = field(default_factory=dict)
    """Measures of closed eyes, as `measure_closed_eyes` returns them."""


def measure(
    faces: PreparedFaces,
    rows: NDArray[np.int64],
    outputs: Outputs,
    calibration: Calibration,
    resamples: int = 0,
    people: NDArray[np.str_] | None = None,
) -> Report:
    """Return all measures of `outputs` on the split `rows`, with bootstrap intervals if `resamples` > 0.

    Faces are resampled, or people where they are known, str of the length of `rows`.
    """
    answers = answers_of(faces, rows, outputs, calibration)
    counts = {"count": len(rows), "found": len(outputs.rows), **with_unit_targets(answers)}
    if answers.annotated is not None:
        counts["with_annotated_valence_arousal"] = int(answers.annotated.sum())
    scope = whole_scope(answers)

    return Report(
        faces={"dataset": faces.info.dataset, "split": str(faces.splits[rows[0]]), **counts},
        **measures(answers, scope),
        intervals=intervals(
            lambda index: measures(answers.take(index), scope), len(answers), resamples, clusters=people
        ),
    )


def with_unit_targets(answers: Answers) -> dict[str, int]:
    """Return the number of faces whose units have targets, under a name that says where these come from."""
    name = "with_known_action_units" if answers.unit_reference == "rendered" else "with_derived_targets"
    return {name: int(answers.derived.sum())}


def whole_scope(answers: Answers) -> Scope:
    """Return the classes (all, all but contempt, those with enough faces) and the units that the means are over."""
    positives = answers.units_present[answers.derived].sum(axis=0)
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
    """Return the measures under the names of Report's fields; empty where there is nothing to measure."""
    units = _action_units(answers)
    return {
        "expression": _expression(answers, scope.classes),
        "valence_arousal": _valence_arousal(answers),
        "action_units": units,
        "action_units_mean": _means(units, scope.units),
    }


def _expression(answers: Answers, groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Measure on the majority set. A face that was not found counts as wrong, but not in the calibration error."""
    kept = answers.majority >= 0
    if answers.expression is None or answers.expression_plain is None or not kept.any():
        return {}
    actual = answers.majority[kept]
    predicted = np.where(answers.found, answers.expression.argmax(axis=1), -1)[kept]
    seen, errors = kept & answers.found, {}
    if seen.any():
        errors = {
            "ece_before": WithoutInterval(top_label_ece(answers.expression_plain[seen], answers.majority[seen])),
            "ece": UpwardBiased(top_label_ece(answers.expression[seen], answers.majority[seen])),
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
    """Measure concordance with the targets, of the estimates and of the expected circumplex position (`_table`).

    `within_interval` is the share of targets inside the stated interval.
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
    """Measure against the units' targets: `pearson` against their values, the rest against their presence."""
    if answers.unit_logits is None or answers.units is None or answers.units_plain is None or not answers.derived.any():
        return {}
    # Contiguous columns, since every measure runs along them, a thousand times for the intervals.
    arrays = (answers.unit_targets, answers.unit_logits, answers.units, answers.units_plain)
    scores, logits, calibrated, uncalibrated = (np.ascontiguousarray(values[answers.derived].T) for values in arrays)
    present = np.ascontiguousarray(answers.units_present[answers.derived].T)
    units = {}
    for i, name in enumerate(ACTION_UNITS):
        positive = present[i]
        probability = calibrated[i]
        plain = uncalibrated[i]
        outcome = positive.astype(np.float64)
        values = {
            "positives": int(positive.sum()),
            "pearson": pearson(plain, scores[i]),
            "auroc": auroc(logits[i], positive),
            "f1_at_half": WithoutInterval(binary_f1(probability >= 0.5, positive)),
            "f1": binary_f1(probability >= answers.thresholds[i], positive),
            "ece_before": WithoutInterval(ece(plain, outcome)),
            "ece": UpwardBiased(ece(probability, outcome)),
            "brier": WithoutInterval(brier(probability, outcome)),
        }
        units[name] = {key: value for key, value in values.items() if not np.isnan(value)}
    return units


def _means(units: Mapping[str, Mapping[str, float]], counted: Sequence[str]) -> dict[str, Any]:
    """Return means over the `counted` units, of F1 over those in F1_UNITS; a mean with an undefined term is absent."""
    if not units:
        return {}
    for_f1 = [name for name in counted if name in F1_UNITS]
    means: dict[str, Any] = {"units": list(counted), "f1_units": for_f1}
    for key, names in (("pearson", counted), ("auroc", counted), ("f1", for_f1), ("ece", counted)):
        values = [units[name][key] for name in names if key in units[name]]
        if values and len(values) == len(names):
            means[key] = type(values[0])(np.mean(values))  # a mean of biased measures is biased like them
    return means
