"""How a network is run for answers: its serving form, on a device, by an engine and in a number format."""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.affect import AffectLogits
from model_core.inference.fixed_batches import FixedBatches, Forward, cuda_graph
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork

Engine: TypeAlias = Literal["torch", "openvino"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]

Runtime: TypeAlias = Callable[[Tensor], NDArray[np.float64]]
"""float32 [B, 3, S, S] -> float64 [B, D]: what the network gives, such as its tasks' outputs in the order of TASKS."""


@dataclass(frozen=True)
class RuntimeOptions:
    """engine: `torch`, or `openvino` for CPUs (extra `openvino`). precision: of the arithmetic; float16: GPUs."""

    engine: Engine = "torch"
    precision: Precision = "float32"

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


EVERY_WAY = (
    RuntimeOptions("torch", "float32"),
    RuntimeOptions("torch", "bfloat16"),
    RuntimeOptions("openvino", "float32"),
    RuntimeOptions("openvino", "bfloat16"),
)
"""All engines and number formats of a CPU; the first is the default, and the reference of the others."""

_LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def joined(logits: AffectLogits, tasks: Sequence[str]) -> Tensor:
    """The logits of some tasks in one tensor, [..., D], in the order of `tasks`."""
    return torch.cat([getattr(logits, task) for task in tasks], dim=-1)


class JoinedNetwork(nn.Module):
    """A network with the logits of some tasks in one tensor, in the order of `tasks`."""

    def __init__(self, network: AffectNetwork, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self._tasks = tasks

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        return joined(self.network(x), self._tasks)


def build_runtime(
    network: AffectNetwork,
    tasks: tuple[str, ...],
    size: int,
    device: torch.device,
    options: RuntimeOptions,
) -> Runtime:
    """Make a network ready to answer for crops of `size` pixels; `tasks` in the order of TASKS.

    On a GPU it runs as CUDA graphs, which are recorded here: seconds, once. That has not been run on a GPU yet.
    Raises ModuleNotFoundError without the extra that an engine needs, ValueError for OpenVINO on another device than a
    CPU and for float16 on another than a GPU, torch.OutOfMemoryError where a GPU has no room for one face.
    """
    return build_joined(JoinedNetwork(folded(network), tasks).eval(), size, device, options)


def build_joined(network: nn.Module, size: int, device: torch.device, options: RuntimeOptions) -> Runtime:
    """The same for a network that is folded and gives one tensor, [B, D]; raises what `build_runtime` raises."""
    if options.precision == "float16" and device.type != "cuda":
        raise ValueError(f"float16 is for GPUs, not for {device}: float32 and bfloat16 run there")
    if options.engine == "openvino":
        if device.type != "cpu":
            raise ValueError(f"OpenVINO runs on the CPU here, not on {device}")
        return _openvino(network, size, options.precision)
    forward = forward_pass(network, device, options.precision)
    if device.type == "cuda":
        return FixedBatches(forward, size, device, cuda_graph)
    return lambda batch: np.asarray(forward(batch).double().numpy())


def forward_pass(network: nn.Module, device: torch.device, precision: Precision) -> Forward:
    """Move a network to a device, channels innermost: float32 [B, 3, S, S] there -> its output there, no gradients."""
    network = network.to(device).to(memory_format=torch.channels_last)
    low = _LOW.get(precision)
    if low is not None and device.type == "cuda":
        narrow(network, low)

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, low, enabled=low is not None):
            output: Tensor = network(images)
            return output

    return forward


def narrow(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert once, in place, the weights that autocast would convert in each pass; the outputs stay the same."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)


def _openvino(network: nn.Module, size: int, precision: Precision) -> Runtime:
    # OpenVINO tells a server on the internet that it was imported and used, and does without where this is missing.
    sys.modules["openvino_telemetry"] = cast("ModuleType", None)
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the engine openvino is not installed: install the extra `openvino`", name=error.name
        ) from error
    shape = openvino.PartialShape([-1, 3, size, size])
    with warnings.catch_warnings(), torch.no_grad():
        # OpenVINO traces by torch.jit, which PyTorch calls deprecated; torch.export takes three times as long to start.
        warnings.simplefilter("ignore", FutureWarning)
        # What a trace would freeze silently, such as the batch's size, must not be served.
        warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        model = openvino.convert_model(network, input=shape, example_input=torch.zeros(2, 3, size, size))
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)

    def run(batch: Tensor) -> NDArray[np.float64]:
        return np.asarray(compiled(batch.numpy())[0], dtype=np.float64)

    return run
