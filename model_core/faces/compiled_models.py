"""A small network in OpenVINO that many threads use: the networks that find faces, and place their landmarks."""

import os
from queue import LifoQueue
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.openvino_package import import_openvino

Model: TypeAlias = Any
"""An openvino.Model with one input and one output, which has no types."""


class CompiledModels:
    """A model, compiled as often as threads use it at once, and at most once for each core; calls may overlap.

    A further thread waits, since a call computes all the time. Each compiled model has memory of its own, so the one
    that was used last is taken first.
    """

    def __init__(self, model: Model) -> None:
        """Take a model."""
        self._model = model
        self._free: LifoQueue[Any] = LifoQueue()
        for _ in os.sched_getaffinity(0):
            self._free.put(None)

    def run(self, values: NDArray[Any], *, release_memory: bool = False) -> NDArray[np.float32]:
        """Return a copy of the model's output for an input.

        `release_memory` gives the memory of the call back at once.
        """
        compiled = self._free.get()
        try:
            compiled = compiled or _compiled(self._model)
            output = np.array(compiled(values)[0])
            if release_memory:
                compiled.release_memory()
        finally:
            self._free.put(compiled)
        return output


def _compiled(model: Model) -> Any:
    """Return a compiled model, whose calls must not overlap. It takes up to a tenth of a second."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # what is found and placed decides the crops that bundles were trained on
        "INFERENCE_NUM_THREADS": 1,  # the caller's
        # OpenVINO would keep up to 600 MB for sizes that it has seen; oneDNN keeps a part of it anyway.
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
    }
    return import_openvino().Core().compile_model(model, "CPU", settings)
