"""The part of a temporal network behind its backbone, an LSTM and heads, in NumPy.

It steps one frame at a time with a state of a few hundred numbers, so a track's step takes tens of microseconds. torch
trains it (`models.lstm`, `models.heads`), and its weights have torch's names.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.bundles.bundle import Weights
from model_core.inference.heads import Floats, Heads, weight

State: TypeAlias = tuple[Floats, Floats]
"""Hidden and cell state, each float32 [B, hidden]."""


class RecurrentNetwork:
    """An LSTM of one layer and the heads on its vectors, in float32."""

    def __init__(self, weights: Weights, widths: Mapping[Task, int]) -> None:
        """Take the weights of an AffectNetwork, and the widths of its tasks' outputs in the order of the columns.

        Raises ValueError if the LSTM or the head of a task has no weights, or weights of other shapes.
        """
        bias = weight(weights, "recurrent.lstm.bias_ih_l0", None)
        gates = len(bias)  # four for each hidden unit
        self._hidden = gates // 4
        self._bias = bias + weight(weights, "recurrent.lstm.bias_hh_l0", gates)
        parts = [
            weight(weights, "recurrent.lstm.weight_ih_l0", gates, None),
            weight(weights, "recurrent.lstm.weight_hh_l0", gates, self._hidden),
        ]
        # In columns, so that each product runs along memory.
        self._weight = np.ascontiguousarray(np.concatenate(parts, axis=1).T)
        self._heads = Heads(weights, widths, self._hidden)

    def step(self, vectors: NDArray[np.floating], state: State | None) -> tuple[NDArray[np.float64], State]:
        """Return outputs, float64 [B, d], and the state after the backbone's vectors [B, D] of the next frame.

        `state` is the state after the frame before, or None at the start of a track.
        """
        if state is None:
            zero = np.zeros((len(vectors), self._hidden), np.float32)
            state = zero, zero
        hidden, cell = state
        gates = np.concatenate([vectors.astype(np.float32), hidden], axis=1) @ self._weight + self._bias
        into, forget, candidate, out = np.split(gates, 4, axis=1)  # in torch's order
        cell = _sigmoid(forget) * cell + _sigmoid(into) * np.tanh(candidate)
        hidden = _sigmoid(out) * np.tanh(cell)
        return self._heads(hidden), (hidden, cell)


def _sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-values)), which cannot overflow in this form."""
    return np.asarray(np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * values)), np.float32)
