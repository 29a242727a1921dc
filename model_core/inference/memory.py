"""What a temporal network remembers of a track, stepped the way it was evaluated (TemporalSpec)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.bundles.manifest import TemporalSpec
from model_core.inference.runtimes import joined
from model_core.models.heads import AffectNetwork
from model_core.models.lstm import State

Floats = NDArray[np.float64]

EARLY = 0.25
"""Share of a frame's duration by which a frame may be early and still count as the next one: timestamps jitter."""

ROUNDING_S = 0.001
"""Containers round timestamps to milliseconds: a gap that is longer by this much is not longer."""


class TrackMemory:
    """One track in one temporal network, which takes the backbone's vectors; in float32, on the CPU.

    Frames that come faster than the network's rate are not stepped, and the last outputs hold; slower ones are stepped
    each. After a gap longer than `max_gap_s` the track starts anew.
    """

    def __init__(self, network: AffectNetwork, tasks: Sequence[Task], spec: TemporalSpec) -> None:
        self._network = network
        self._tasks = tuple(tasks)
        self._spec = spec
        self._seen_s = -math.inf
        self._start_s, self._frame, self._steps = 0.0, -1, 0
        self._state: State | None = None
        self._outputs: Floats = np.empty(0)

    def step(self, vector: Floats, time_s: float) -> Floats:
        """The next frame's vector, float64 [D], at a time in seconds that does not decrease -> outputs [d]."""
        if time_s - self._seen_s > self._spec.max_gap_s + ROUNDING_S:
            self._start_s, self._frame, self._steps, self._state = time_s, -1, 0, None
        self._seen_s = time_s
        frame = math.floor((time_s - self._start_s) * self._spec.frame_rate + EARLY)
        if frame > self._frame:
            self._frame = frame
            self._outputs = self._advance(vector)
        return self._outputs

    def _advance(self, vector: Floats) -> Floats:
        if self._spec.state == "reset" and self._steps % self._spec.window == 0:
            self._state = None
        self._steps += 1
        with torch.inference_mode():
            logits, self._state = self._network.read_sequence(torch.from_numpy(vector).float()[None, None], self._state)
            return np.asarray(joined(logits, self._tasks)[0, 0].double().numpy())
