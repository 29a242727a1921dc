"""Runtimes: a network in the form that serves, on a device, run by an engine in a number format."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.inference.fixed_batches import FixedBatches, Forward, cuda_graph
from model_core.inference.layout import concatenated
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork

Engine: TypeAlias = Literal["torch", "openvino"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]

Runtime: TypeAlias = Callable[[Tensor], NDArray[np.float64]]
"""Maps images, float32 [B, 3, S, S] on the CPU, to the network's tensor, float64 [B, D], such as its tasks' logits."""


@dataclass(frozen=True)
class RuntimeOptions:
    """The engine and the number format that a network is run with."""

    engine: Engine = "torch"
    """`torch`, or `openvino` for CPUs, which needs the extra `openvino`."""

    precision: Precision = "float32"
    """Number format of the arithmetic; `float16` is for GPUs only."""

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


CPU_OPTIONS = (
    RuntimeOptions("torch", "float32"),
    RuntimeOptions("torch", "bfloat16"),
    RuntimeOptions("openvino", "float32"),
    RuntimeOptions("openvino", "bfloat16"),
)
"""Every engine and number format for CPUs. The first is the default, with which the others are compared."""

_LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class ConcatenatedNetwork(nn.Module):
    """A network that returns the logits of some tasks in one tensor, as engines expect."""

    def __init__(self, network: AffectNetwork, tasks: tuple[str, ...]) -> None:
        """Take a network and the tasks in the order of the tensor's columns."""
        super().__init__()
        self.network = network
        self._tasks = tasks

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, D] for the network's input, such as images, float [B, 3, S, S]."""
        return concatenated(self.network(x), self._tasks)


def build_runtime(
    network: AffectNetwork,
    tasks: tuple[str, ...],
    size: int,
    device: torch.device,
    options: RuntimeOptions,
) -> Runtime:
    """Return a runtime for crops of `size` pixels that gives the logits of `tasks`, in the order of TASKS.

    Raises as `build_tensor_runtime` does.
    """
    return build_tensor_runtime(ConcatenatedNetwork(folded(network), tasks).eval(), size, device, options)


def build_tensor_runtime(network: nn.Module, size: int, device: torch.device, options: RuntimeOptions) -> Runtime:
    """Return a runtime for a network that is folded and maps images of `size` pixels to one tensor [B, D].

    On a GPU it runs as CUDA graphs, which are recorded here and take seconds, once. That has not been run on a GPU yet.

    Raises ModuleNotFoundError if the extra that the engine needs is not installed, ValueError for OpenVINO on anything
    but a CPU and for float16 on anything but a GPU, and torch.OutOfMemoryError if a GPU has no room for one face.
    """
    if options.precision == "float16" and device.type != "cuda":
        raise ValueError(f"float16 is for GPUs, not for {device}; use float32 or bfloat16 there")
    if options.engine == "openvino":
        if device.type != "cpu":
            raise ValueError(f"OpenVINO runs on the CPU only, not on {device}")
        return _openvino(network, size, options.precision)
    forward = forward_pass(network, device, options.precision)
    if device.type == "cuda":
        return FixedBatches(forward, size, device, cuda_graph)
    return lambda batch: np.asarray(forward(batch).double().numpy())


def forward_pass(network: nn.Module, device: torch.device, precision: Precision) -> Forward:
    """Move a network to a device, with channels innermost, and return its forward pass without gradients.

    The pass takes images, float32 [B, 3, S, S] on the device, and returns the network's output there.
    """
    network = network.to(device).to(memory_format=torch.channels_last)
    low = _LOW.get(precision)
    if low is not None and device.type == "cuda":
        convert_weights(network, low)

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, low, enabled=low is not None):
            output: Tensor = network(images)
            return output

    return forward


def convert_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert in place, once, the weights that autocast would convert in each pass. The outputs stay the same."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)


def _openvino(network: nn.Module, size: int, precision: Precision) -> Runtime:
    # OpenVINO reports its import and use to a server on the internet, unless this module cannot be imported.
    sys.modules["openvino_telemetry"] = cast("ModuleType", None)
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the engine openvino is not installed; install the extra `openvino`", name=error.name
        ) from error
    shape = openvino.PartialShape([-1, 3, size, size])
    with warnings.catch_warnings(), torch.no_grad():
        # OpenVINO traces by torch.jit, which PyTorch calls deprecated; torch.export takes three times as long to start.
        warnings.simplefilter("ignore", FutureWarning)
        # A trace freezes some values silently, such as the batch size; such a network must not be served.
        warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        model = openvino.convert_model(network, input=shape, example_input=torch.zeros(2, 3, size, size))
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)

    # In bfloat16, OpenVINO's outputs for a single image are wrong; those for two are right (seen with 2026.4.1 on a CPU
    # with AMX).
    least = 2 if precision == "bfloat16" else 1

    def run(batch: Tensor) -> NDArray[np.float64]:
        images = batch if len(batch) >= least else batch.repeat(least, 1, 1, 1)
        return np.asarray(compiled(images.numpy())[0], dtype=np.float64)[: len(batch)]

    return run
