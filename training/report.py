"""The measures of a network on a split, as a value that prints, and that a bundle can carry."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import UNCALIBRATED_UNIT, Calibration
from model_core.metrics import accuracy, auroc, binary_f1, brier, ccc, ece, macro_f1, pearson
from training.derived import circumplex_table
from training.prepared import PreparedFaces
from training.scoring import POSITIVE_SCORE, Outputs, predicted_majority

MIN_CLASS_SIZE = 50


@dataclass(frozen=True)
class Report:
    """Plain JSON values by task; what could not be measured is absent."""

    faces: dict[str, Any]
    expression: dict[str, Any] = field(default_factory=dict)
    valence_arousal: dict[str, Any] = field(default_factory=dict)
    action_units: dict[str, Any] = field(default_factory=dict)


def measure(faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, calibration: Calibration) -> Report:
    """All measures of `outputs` on the split `rows`, before and after `calibration`."""
    derived = faces.derived[outputs.rows]
    counts = {"count": len(rows), "found": len(outputs.rows), "with_derived_targets": int(derived.sum())}
    return Report(
        faces={"dataset": faces.info.dataset, "split": str(faces.splits[rows[0]]), **counts},
        expression=_expression(faces, rows, outputs, calibration) if outputs.expression is not None else {},
        valence_arousal=_valence_arousal(faces, outputs, derived, calibration) if derived.any() else {},
        action_units=_action_units(faces, outputs, derived, calibration) if derived.any() else {},
    )


def _expression(
    faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, calibration: Calibration
) -> dict[str, Any]:
    """On the majority set; a face not found is a wrong answer, and takes no part in calibration error."""
    assert outputs.expression is not None
    probabilities = calibration.expression_probabilities(outputs.expression)
    predicted, actual = predicted_majority(faces, rows, outputs, probabilities)
    if not len(actual):
        return {}
    sizes = np.bincount(actual, minlength=len(faces.info.labels))
    classes = range(len(faces.info.labels))
    groups = {
        f"macro_f1_{len(classes)}": list(classes),
        "macro_f1_without_contempt": [c for c in classes if faces.info.labels[c] != "contempt"],
        f"macro_f1_at_least_{MIN_CLASS_SIZE}": [c for c in classes if sizes[c] >= MIN_CLASS_SIZE],
    }
    kept = faces.majority[outputs.rows] >= 0
    truth = faces.majority[outputs.rows][kept]
    plain = Calibration().expression_probabilities(outputs.expression)
    errors = {}
    if kept.any():
        errors = {"ece_before": _top_label_ece(plain[kept], truth), "ece": _top_label_ece(probabilities[kept], truth)}
    return {
        "count": len(actual),
        "accuracy": accuracy(predicted, actual),
        **{name: macro_f1(predicted, actual, group) for name, group in groups.items() if group},
        **errors,
        "f1": {label: binary_f1(predicted == c, actual == c) for c, label in enumerate(faces.info.labels)},
        "support": dict(zip(faces.info.labels, sizes.tolist(), strict=True)),
    }


def _top_label_ece(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    return ece(probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype(np.float64))


def _valence_arousal(
    faces: PreparedFaces, outputs: Outputs, derived: NDArray[np.bool_], calibration: Calibration
) -> dict[str, Any]:
    """Concordance with the derived targets, beside that of looking the expression probabilities up in the table."""
    if outputs.valence_arousal is None:
        return {}
    target = faces.valence_arousal[outputs.rows][derived].astype(np.float64)
    names = ("valence", "arousal")
    values = {f"ccc_{name}": ccc(outputs.valence_arousal[derived, i], target[:, i]) for i, name in enumerate(names)}
    if outputs.expression is not None:
        looked_up = calibration.expression_probabilities(outputs.expression) @ circumplex_table(faces.info.labels)
        values |= {f"ccc_{name}_table": ccc(looked_up[derived, i], target[:, i]) for i, name in enumerate(names)}
    return values


def _action_units(
    faces: PreparedFaces, outputs: Outputs, derived: NDArray[np.bool_], calibration: Calibration
) -> dict[str, Any]:
    """Against the teacher; `pearson` compares plain sigmoids with its scores, the rest its decision at 0.3."""
    if outputs.action_units is None:
        return {}
    logits, scores = outputs.action_units[derived], faces.action_units[outputs.rows][derived]
    units = {}
    for i, name in enumerate(ACTION_UNITS):
        positive = scores[:, i] >= POSITIVE_SCORE
        probability = calibration.unit(name).probability(logits[:, i])
        plain = UNCALIBRATED_UNIT.probability(logits[:, i])
        outcome = positive.astype(np.float64)
        measures = {
            "positives": int(positive.sum()),
            "pearson": pearson(plain, scores[:, i].astype(np.float64)),
            "auroc": auroc(logits[:, i], positive),
            "f1_at_half": binary_f1(probability >= 0.5, positive),
            "f1": binary_f1(probability >= calibration.unit(name).threshold, positive),
            "ece_before": ece(plain, outcome),
            "ece": ece(probability, outcome),
            "brier": brier(probability, outcome),
        }
        units[name] = {key: value for key, value in measures.items() if not np.isnan(value)}
    return units
