"""A network's outputs on a whole split, and the measures taken of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.metrics import accuracy, ccc, macro_f1, pearson
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.batches import evaluation_batches
from training.data.prepared import PreparedFaces

POSITIVE_SCORE = 0.3
"""Teacher score from which a derived action unit counts as present; fixed before any training."""


@dataclass(frozen=True)
class Outputs:
    """Uncalibrated outputs for the found faces of a split, in the order of `rows`, int64 [N].

    valence_arousal: float64 [N, 2]; expression: logits [N, C]; action_units: logits [N, 12]; None for a missing task.
    """

    rows: NDArray[np.int64]
    valence_arousal: NDArray[np.float64] | None
    expression: NDArray[np.float64] | None
    action_units: NDArray[np.float64] | None

    @property
    def finite(self) -> bool:
        """Whether every output is a number: a class can be read off NaN, and would mean nothing."""
        tasks = (self.valence_arousal, self.expression, self.action_units)
        return all(np.isfinite(values).all() for values in tasks if values is not None)


def require_finite(outputs: Outputs) -> None:
    """Refuse to measure or calibrate outputs that are not numbers. Raises ValueError."""
    if not outputs.finite:
        raise ValueError("the network's outputs are not finite: its weights cannot be used")


@torch.inference_mode()
def collect(
    network: AffectNetwork, faces: PreparedFaces, rows: NDArray[np.int64], spec: InputSpec, device: torch.device
) -> Outputs:
    """Run the network over the found faces among `rows`. Leaves it in evaluation mode."""
    network.eval()
    found = rows[faces.found[rows]]
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for batch in evaluation_batches(faces, found, spec):
        logits = network(batch.images.to(device))
        for task, values in vars(logits).items():
            if values is not None:
                parts.setdefault(task, []).append(values.double().cpu().numpy())
    whole = {task: np.concatenate(values) for task, values in parts.items()}
    return Outputs(found, whole.get("valence_arousal"), whole.get("expression"), whole.get("action_units"))


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Outputs on parts of a split, in their order, as those of the whole; parts without a found face do not count."""
    filled = [part for part in parts if len(part.rows)] or parts[:1]

    def column(task: Task) -> NDArray[np.float64] | None:
        values = [getattr(part, task) for part in filled]
        return None if values[0] is None else np.concatenate(values)

    rows = np.concatenate([part.rows for part in filled])
    return Outputs(rows, column("valence_arousal"), column("expression"), column("action_units"))


def predicted_majority(
    faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(predicted, actual) labels for the majority set among `rows`; a face that was not found is predicted -1."""
    predicted = np.full(len(faces), -1)
    predicted[outputs.rows] = scores.argmax(axis=1)
    kept = rows[faces.majority[rows] >= 0]
    return predicted[kept], faces.majority[kept]


def headline(faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs) -> Mapping[str, float]:
    """The few numbers that a training run watches; `score`, their mean over tasks, decides which epoch is kept.

    Of outputs that are not all finite there is a score alone, and it is NaN.
    """
    if not outputs.finite:
        return {"score": float("nan")}
    measures: dict[str, float] = {}
    per_task = []
    derived = faces.derived[outputs.rows]
    if outputs.expression is not None:
        predicted, actual = predicted_majority(faces, rows, outputs, outputs.expression)
        measures["accuracy"] = accuracy(predicted, actual)
        measures["macro_f1"] = macro_f1(predicted, actual, range(len(faces.info.labels)))
        per_task.append(measures["accuracy"])
    known = faces.with_valence_arousal[outputs.rows]
    if outputs.valence_arousal is not None and known.any():
        target = faces.valence_arousal[outputs.rows][known]
        columns = [ccc(outputs.valence_arousal[known, i], target[:, i]) for i in range(2)]
        measures["ccc_v"], measures["ccc_a"] = columns
        per_task.append(float(np.mean(columns)))
    if outputs.action_units is not None and derived.any():
        probability = 1 / (1 + np.exp(-outputs.action_units[derived]))
        target = faces.action_units[outputs.rows][derived]
        measures["au_r"] = float(np.nanmean([pearson(probability[:, i], target[:, i]) for i in range(target.shape[1])]))
        per_task.append(measures["au_r"])
    if not per_task:
        raise ValueError("the validation split has neither a majority nor other targets to choose an epoch by")
    measures["score"] = float(np.mean(per_task))
    return measures
