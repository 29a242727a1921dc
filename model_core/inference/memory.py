"""The recurrent state of one track, stepped in the way in which its network was evaluated (TemporalSpec)."""

import math

import numpy as np
from numpy.typing import NDArray

from model_core.bundles.manifest import TemporalSpec
from model_core.inference.recurrent import RecurrentNetwork, State

Floats = NDArray[np.float64]

EARLY = 0.25
"""Share of a frame's duration by which a frame may come early and still count as the next one: timestamps jitter."""

ROUNDING_S = 0.001
"""Tolerance of `max_gap_s` in seconds: containers round timestamps to milliseconds."""


class TrackMemory:
    """The state of one track in one temporal network.

    Frames that come faster than the network's frame rate do not step the network, and the last outputs hold. Slower
    frames step it once each. After a gap longer than `max_gap_s` the track starts anew.
    """

    def __init__(self, network: RecurrentNetwork, spec: TemporalSpec) -> None:
        """Take the network, and the way in which it was evaluated."""
        self._network = network
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
        outputs, self._state = self._network.step(vector[None], self._state)
        answer: Floats = outputs[0]
        return answer
