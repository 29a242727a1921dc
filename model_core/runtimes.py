"""How a network is run for answers: its serving form, on a device, by an engine and in a number format."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork

Engine: TypeAlias = Literal["torch", "openvino"]
Precision: TypeAlias = Literal["float32", "bfloat16"]

Runtime: TypeAlias = Callable[[Tensor], NDArray[np.float64]]
"""float32 [B, 3, S, S] -> float64 [B, D]: the outputs of the tasks one after another, in the order of TASKS."""


@dataclass(frozen=True)
class RuntimeOptions:
    """engine: `torch`, or `openvino` for CPUs (extra `openvino`). precision: of the arithmetic, not of the weights."""

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
"""All engines and number formats; the first is the default, and the reference of the others."""


class JoinedNetwork(nn.Module):
    """A network with the logits of some tasks in one tensor, in the order of `tasks`."""

    def __init__(self, network: AffectNetwork, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self._tasks = tasks

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        logits = self.network(x)
        return torch.cat([getattr(logits, task) for task in self._tasks], dim=1)


def build_runtime(
    network: AffectNetwork,
    tasks: tuple[str, ...],
    size: int,
    device: torch.device,
    options: RuntimeOptions,
) -> Runtime:
    """Make a network ready to answer for crops of `size` pixels; `tasks` in the order of TASKS.

    Raises ModuleNotFoundError without the extra that an engine needs, ValueError for OpenVINO on another device.
    """
    joined = JoinedNetwork(folded(network), tasks).eval()
    if options.engine == "openvino":
        if device.type != "cpu":
            raise ValueError(f"OpenVINO runs on the CPU here, not on {device}")
        return _openvino(joined, size, options.precision)
    return _torch(joined, device, options.precision)


def _torch(network: JoinedNetwork, device: torch.device, precision: Precision) -> Runtime:
    network = network.to(device).to(memory_format=torch.channels_last)

    def run(batch: Tensor) -> NDArray[np.float64]:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return np.asarray(network(batch.to(device)).double().cpu().numpy())

    return run


def _openvino(network: JoinedNetwork, size: int, precision: Precision) -> Runtime:
    # OpenVINO tells a server on the internet that it was imported and used, and does without where this is missing.
    sys.modules["openvino_telemetry"] = cast("ModuleType", None)
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the engine openvino is not installed: install the extra `openvino`", name=error.name
        ) from error
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        exported = torch.export.export(network, (torch.zeros(2, 3, size, size),), dynamic_shapes={"x": {0: batch}})
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(openvino.convert_model(exported), "CPU", options)

    def run(batch: Tensor) -> NDArray[np.float64]:
        return np.asarray(compiled(batch.numpy())[0], dtype=np.float64)

    return run
