"""The heads of a network in NumPy: from vectors to the outputs of each task.

torch trains them (`models.heads`), and their weights have torch's names.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from model_core.baseline import ChangeEstimator
from model_core.bundles.bundle import Weights
from model_core.models.spec import PROMPT_TEMPERATURE, EstimatorSpec

Floats: TypeAlias = NDArray[np.float32]

_Head: TypeAlias = Callable[[Floats], Floats]
"""Maps vectors [B, D] to a task's logits [B, d]."""


class Heads:
    """The heads of some tasks, in float32."""

    def __init__(self, weights: Weights, widths: Mapping[Task, int], size_in: int) -> None:
        """Take the weights of an AffectNetwork, the widths of its tasks' outputs, and the width of the vectors.

        Raises ValueError if the head of a task has no weights, or weights of other shapes.
        """
        self._heads = {task: _head(weights, f"heads.{task}", size_in, width) for task, width in widths.items()}

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Return the outputs [B, d], one task after another, for vectors [B, D]; valence and arousal are in [-1, 1]."""
        parts = {task: head(vectors) for task, head in self._heads.items()}
        if "valence_arousal" in parts:
            parts["valence_arousal"] = np.tanh(parts["valence_arousal"])
        return np.concatenate(list(parts.values()), axis=1).astype(np.float64)


def change_estimator(weights: Weights, spec: EstimatorSpec | None) -> ChangeEstimator | None:
    """Return the estimator of changes of an AffectNetwork; None where it has none.

    Raises ValueError if it has no weights, or weights of other shapes.
    """
    if spec is None:
        return None
    first = weight(weights, "estimator.first.weight", spec.hidden, spec.outputs)
    bias = weight(weights, "estimator.first.bias", spec.hidden)
    last = weight(weights, "estimator.last.weight", 2 * len(ACTION_UNITS), spec.hidden)
    return ChangeEstimator(first.astype(np.float64), bias.astype(np.float64), last.astype(np.float64))


def weight(weights: Weights, name: str, *shape: int | None) -> Floats:
    """Return a weight as float32; raises ValueError if it is missing or has another shape, where None fits any size."""
    if name not in weights:
        raise ValueError(f"missing {name}")
    found = weights[name]
    if len(found.shape) != len(shape) or any(b not in (None, a) for a, b in zip(found.shape, shape, strict=True)):
        raise ValueError(f"{name} is {found.shape}, expected {shape}")
    return found.astype(np.float32)


def _head(weights: Weights, name: str, size_in: int, size_out: int) -> _Head:
    """Return the function of a head, whose kind shows in the names of its weights: prompts, hidden layer or linear."""
    if f"{name}.text" in weights:
        text = weight(weights, f"{name}.text", size_out, None).T
        adapt = _linear(weights, f"{name}.adapter", size_in, len(text))
        return lambda vectors: _of_length_one(adapt(vectors)) @ text / np.float32(PROMPT_TEMPERATURE)
    if f"{name}.0.weight" in weights:
        hidden = len(weights[f"{name}.0.weight"])
        first = _linear(weights, f"{name}.0", size_in, hidden)
        last = _linear(weights, f"{name}.2", hidden, size_out)
        return lambda vectors: last(np.maximum(first(vectors), 0))
    return _linear(weights, name, size_in, size_out)


def _linear(weights: Weights, name: str, size_in: int, size_out: int) -> _Head:
    matrix = np.ascontiguousarray(weight(weights, f"{name}.weight", size_out, size_in).T)
    bias = weight(weights, f"{name}.bias", size_out)
    return lambda vectors: vectors @ matrix + bias


def _of_length_one(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), np.float32)
