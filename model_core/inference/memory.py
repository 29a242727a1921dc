"""The recurrent state of one track, stepped in the way in which its network was evaluated (TemporalSpec)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.bundles.manifest import TemporalSpec
from model_core.inference.layout import concatenated
from model_core.models.heads import AffectNetwork
from model_core.models.lstm import State

Floats = NDArray[np.float64]

EARLY = 0.25
"""Share of a frame's duration by which a frame may come early and still count as the next one: timestamps jitter."""

ROUNDING_S = 0.001
"""Tolerance of `max_gap_s` in seconds: containers round timestamps to milliseconds."""


class TrackMemory:
    """The state of one track in one temporal network, in float32 on the CPU.

    Frames that come faster than the network's frame rate do not step the network, and the last outputs hold. Slower
    frames step it once each. After a gap longer than `max_gap_s` the track starts anew.
    """

    def __init__(self, network: AffectNetwork, tasks: Sequence[Task], spec: TemporalSpec) -> None:
        """Take a network without its backbone (`encoder.without_backbone`), and its tasks in the order of TASKS."""
        self._network = network
        self._tasks = tuple(tasks)
        self._spec = spec
        self._start_s = 0.0
        self._last_s = -math.inf
        self._frame = -1
        self._steps = 0
        self._state: State | None = None
        self._outputs: Floats = np.empty(0)

    def step(self, vector: Floats, time_s: float) -> Floats:
        """Return the raw outputs [d] for the next frame's vector, float64 [D].

        The time is in seconds and must not decrease.
        """
        if time_s - self._last_s > self._spec.max_gap_s + ROUNDING_S:
            self._restart(time_s)
        self._last_s = time_s
        frame = math.floor((time_s - self._start_s) * self._spec.frame_rate + EARLY)
        if frame > self._frame:
            self._frame = frame
            self._outputs = self._advance(vector)
        return self._outputs

    def _restart(self, time_s: float) -> None:
        """Forget the track so far and begin it at a time."""
        self._start_s = time_s
        self._frame = -1
        self._steps = 0
        self._state = None

    def _advance(self, vector: Floats) -> Floats:
        """Step the network."""
        if self._spec.state == "reset" and self._steps % self._spec.window == 0:
            self._state = None
        self._steps += 1
        with torch.inference_mode():
            logits, self._state = self._network.forward_sequence(
                torch.from_numpy(vector).float()[None, None], self._state
            )
            return np.asarray(concatenated(logits, self._tasks)[0, 0].double().numpy())
