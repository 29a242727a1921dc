"""Runtimes: a network in the form that serves, on a device, run by an engine in a number format.

`torch_runtime` and `openvino_runtime` make them; only the first needs torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.preprocessing import Images

Engine: TypeAlias = Literal["torch", "openvino"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]

Runtime: TypeAlias = Callable[[Images], NDArray[np.float64]]
"""Maps images, float32 [B, 3, S, S], to the network's outputs, float64 [B, D], such as its tasks' logits.

Raises DeviceMemoryError if the device has no room for the batch."""


class DeviceMemoryError(Exception):
    """Raised if a device has too little memory for a batch; a smaller one may still fit."""


@dataclass(frozen=True)
class RuntimeOptions:
    """The engine and the number format that a network is run with."""

    engine: Engine = "torch"
    """`torch`, or `openvino` for CPUs; each needs the extra of its name."""

    precision: Precision = "float32"
    """Number format of the arithmetic; `float16` is for GPUs only."""

    threads: int | None = None
    """CPU threads of a forward pass; None leaves it to the engine, which takes one for each core."""

    def check(self, device: str) -> None:
        """Raise ValueError if a device, by torch's name, cannot run the engine or the number format."""
        if self.precision == "float16" and not device.startswith("cuda"):
            raise ValueError(f"float16 is for GPUs, not for {device}; use float32 or bfloat16 there")
        if self.engine == "openvino" and device != "cpu":
            raise ValueError(f"OpenVINO runs on the CPU only, not on {device}")

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


CPU_OPTIONS = (
    RuntimeOptions("torch", "float32"),
    RuntimeOptions("torch", "bfloat16"),
    RuntimeOptions("openvino", "float32"),
    RuntimeOptions("openvino", "bfloat16"),
)
"""Every engine and number format for CPUs. The first is the default, with which the others are compared."""
