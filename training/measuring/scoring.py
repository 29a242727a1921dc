"""A network's uncalibrated outputs on a whole split, and the measures that a training run watches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import TASKS, Task
from model_core.baseline import ChangeEstimator
from model_core.calibration import UNCALIBRATED_UNIT
from model_core.metrics import accuracy, ccc, macro_f1, pearson
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.batches import evaluation_batches
from training.data.mirror_images import logits_of
from training.data.prepared import PreparedFaces
from training.datasets.raw import DatasetError


@dataclass(frozen=True)
class Outputs:
    """Uncalibrated outputs for the N found faces of a split. A task that the network does not have is None."""

    rows: NDArray[np.int64]
    """int64 [N]: the faces' positions in the prepared set."""
    valence_arousal: NDArray[np.float64] | None
    """float64 [N, 2] in [-1, 1]."""
    expression: NDArray[np.float64] | None
    """float64 [N, C]: logits."""
    action_units: NDArray[np.float64] | None
    """float64 [N, 12]: logits."""
    eyes_closed: NDArray[np.float64] | None = None
    """float64 [N, 1]: logits."""
    unit_changes: NDArray[np.float64] | None = None
    """float64 [N, D]."""

    def take(self, kept: NDArray[np.bool_]) -> "Outputs":
        """Return the outputs of some of the faces, bool [N]."""
        return Outputs(self.rows[kept], *(None if values is None else values[kept] for values in self._tasks))

    @property
    def finite(self) -> bool:
        """True if every output is finite. The argmax of NaN would still be a class, though a meaningless one."""
        return all(np.isfinite(values).all() for values in self._tasks if values is not None)

    @property
    def _tasks(self) -> tuple[NDArray[np.float64] | None, ...]:
        return tuple(getattr(self, task) for task in TASKS)


def estimator_of(network: AffectNetwork) -> ChangeEstimator | None:
    """Return what the network's outputs of `unit_changes` are compared by; None without that task."""
    layers = network.estimator
    if layers is None:
        return None
    weights = (layers.first.weight, layers.first.bias, layers.last.weight)
    return ChangeEstimator(*(weight.detach().cpu().double().numpy() for weight in weights))


def require_finite(outputs: Outputs) -> None:
    """Refuse to measure or calibrate outputs that are not finite. Raises ValueError."""
    if not outputs.finite:
        raise ValueError("the network's outputs are not finite: its weights cannot be used")


@torch.inference_mode()
def collect(
    network: AffectNetwork, faces: PreparedFaces, rows: NDArray[np.int64], spec: InputSpec, device: torch.device
) -> Outputs:
    """Return the network's outputs for the found faces among `rows`. It is left in evaluation mode."""
    network.eval()
    found = rows[faces.found[rows]]
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for batch in evaluation_batches(faces, found, spec):
        logits = logits_of(network, batch.images.to(device), spec)
        for task, values in vars(logits).items():
            if values is not None:
                parts.setdefault(task, []).append(values.double().cpu().numpy())
    whole = {task: np.concatenate(values) for task, values in parts.items()}
    return Outputs(found, *(whole.get(task) for task in TASKS))


def concatenated(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs on parts of a split, in order, as those of the whole; parts without faces are skipped."""
    filled = [part for part in parts if len(part.rows)] or parts[:1]

    def column(task: Task) -> NDArray[np.float64] | None:
        values = [getattr(part, task) for part in filled]
        return None if values[0] is None else np.concatenate(values)

    rows = np.concatenate([part.rows for part in filled])
    return Outputs(rows, *map(column, TASKS))


def predicted_majority(
    faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (predicted, actual) labels of the majority set among `rows`; the prediction for a face not found is -1."""
    predicted = np.full(len(faces), -1)
    predicted[outputs.rows] = scores.argmax(axis=1)
    kept = rows[faces.majority[rows] >= 0]
    return predicted[kept], faces.majority[kept]


def headline(faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs) -> Mapping[str, float]:
    """Return the few measures that a training run watches; their mean over tasks, `score`, decides which epoch is kept.

    Of several sets each is measured by itself, its measures go by `set/measure`, and `score` is the mean of their
    scores, weighted by their shares; a set without faces among `rows` is left out. `score` is NaN, and alone, where an
    output is not finite. Raises DatasetError where there is nothing to measure on.
    """
    if not outputs.finite:
        return {"score": math.nan}
    if len(faces.shares) == 1:
        return _headline_of_one(faces, rows, outputs)
    measures: dict[str, float] = {}
    scores, shares = [], []
    for number, (name, weight) in enumerate(zip(faces.set_names, faces.shares, strict=True)):
        own = rows[faces.origins[rows] == number]
        if not len(own):
            continue
        shares.append(weight)
        part = _headline_of_one(faces, own, outputs.take(faces.origins[outputs.rows] == number))
        scores.append(part["score"])
        measures |= {f"{name}/{key}": value for key, value in part.items()}
    if not scores:
        raise DatasetError("none of the sets has validation faces to choose an epoch by")
    return {**measures, "score": float(np.average(scores, weights=shares))}


def _headline_of_one(faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs) -> Mapping[str, float]:
    measures: dict[str, float] = {}
    per_task = []
    if outputs.expression is not None and (faces.majority[rows] >= 0).any():
        predicted, actual = predicted_majority(faces, rows, outputs, outputs.expression)
        measures["accuracy"] = accuracy(predicted, actual)
        measures["macro_f1"] = macro_f1(predicted, actual, range(len(faces.info.labels)))
        per_task.append(measures["accuracy"])
    known = faces.with_valence_arousal[outputs.rows]
    if outputs.valence_arousal is not None and known.any():
        target = faces.valence_arousal[outputs.rows][known]
        measures["ccc_v"] = ccc(outputs.valence_arousal[known, 0], target[:, 0])
        measures["ccc_a"] = ccc(outputs.valence_arousal[known, 1], target[:, 1])
        per_task.append((measures["ccc_v"] + measures["ccc_a"]) / 2)
    known_units = faces.known_units[outputs.rows]
    if outputs.action_units is not None and known_units.any():
        probability = UNCALIBRATED_UNIT.probability(outputs.action_units)
        target = faces.action_units[outputs.rows]
        columns = [(i, known_units[:, i]) for i in range(target.shape[1]) if known_units[:, i].any()]
        correlations = [pearson(probability[kept, i], target[kept, i]) for i, kept in columns]
        defined = [value for value in correlations if not math.isnan(value)]
        measures["au_r"] = float(np.mean(defined)) if defined else math.nan
        per_task.append(measures["au_r"])
    if not per_task:
        raise DatasetError("the validation split has neither a majority nor other targets to choose an epoch by")
    measures["score"] = float(np.mean(per_task))
    return measures
