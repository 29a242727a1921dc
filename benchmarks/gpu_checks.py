"""The checks of `benchmarks.gpu`: answers beside the CPU's, recorded passes beside eager ones, a device without memory.

Each check gives a section of markdown, and whether it was passed. Not run on a GPU yet.
"""

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.reporting import section, table
from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import Bundle
from model_core.faces.geometry import Crop
from model_core.inference.encoder import Encoder, Features
from model_core.inference.fixed_batches import FixedBatches, Record, cuda_graph, eager
from model_core.inference.networks import ConcatenatedNetwork
from model_core.inference.predictor import Predictor
from model_core.inference.runtimes import DeviceMemoryError, Precision, RuntimeOptions
from model_core.inference.torch_runtime import forward_pass
from model_core.preprocessing import InputSpec
from service.analysis.estimating import BatchedEncoder, Estimate
from service.scheduling.batcher import NoObserver
from service.scheduling.replica import BatchLimits
from service.scheduling.watchdog import Watchdog
from training.generated.drawing import Pose, draw
from training.generated.people import person

NOISE = 6.0
"""Standard deviation of what is added to a drawing, in grey levels."""

LIMITS: Mapping[str, tuple[float, float, float]] = {
    "float32": (0.999, 1e-4, 0.005),
    "float16": (0.995, 0.001, 0.02),
    "bfloat16": (0.98, 0.005, 0.08),
}
"""By number format: least share with the CPU's label, largest mean and largest 99.9th percentile of change."""

_BATCH = 32

ODD_COUNTS = (1, 2, 3, 5, 9, 31, 32, 33)
"""Numbers of faces of which most are padded or cut."""


@dataclass(frozen=True)
class Place:
    """The device to look at, how passes are recorded there, and the number formats that it has."""

    device: torch.device
    record: Record
    precisions: tuple[Precision, ...]

    def wait(self) -> None:
        """Return when the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def place(name: str) -> Place:
    """`cpu`, `cuda` or `cuda:N`."""
    device = torch.device(name)
    if device.type == "cuda":
        return Place(device, cuda_graph, ("float32", "bfloat16", "float16"))
    return Place(device, eager, ("float32", "bfloat16"))


def drawn(count: int, seed: int = 0) -> list[Crop]:
    """Noisy drawings of different people in different moods, uint8 [112, 112, 3] RGB; the same for the same seed."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        levels = rng.random(len(ACTION_UNITS)) * (rng.random(len(ACTION_UNITS)) < 0.4)
        pose = Pose(rng.normal(0, 0.2), rng.normal(0, 0.1), rng.uniform(0.9, 1.1))
        noisy = draw(person(rng), levels, 0.0, pose) + rng.normal(0, NOISE, (112, 112, 3))
        crops.append(noisy.clip(0, 255).astype(np.uint8))
    return crops


def probabilities(predictor: Predictor, crops: Sequence[Crop]) -> NDArray[np.float64]:
    """[N, labels]: the expressions' probabilities of N crops."""
    rows = [[crop] for crop in crops]
    affects = (affect for i in range(0, len(rows), _BATCH) for affect in predictor.predict(rows[i : i + _BATCH]))
    return np.array([list(affect.expression.probabilities.values()) for affect in affects if affect.expression])


def differences(found: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[float, float, float]:
    """The share with the same label, the mean change, and the 99.9th percentile of each face's largest change."""
    change = np.abs(found - expected)
    same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    return float(same), float(change.mean()), float(np.quantile(change.max(axis=1), 0.999))


def within(measured: tuple[float, float, float], precision: str) -> bool:
    """Return True if the differences are within LIMITS."""
    same, mean, tail = LIMITS[precision]
    return measured[0] >= same and measured[1] <= mean and measured[2] <= tail


def agreement(bundle: Bundle, at: Place, crops: Sequence[Crop]) -> tuple[str, bool]:
    """The device in each number format beside the CPU in float32: a section, and whether all keep to LIMITS."""
    expected = probabilities(Predictor([bundle]), crops)
    rows, good = [], True
    for precision in at.precisions:
        predictor = Predictor([bundle], str(at.device), RuntimeOptions("torch", precision))
        measured = differences(probabilities(predictor, crops), expected)
        rows.append((precision, *measured, _verdict(within(measured, precision))))
        good &= within(measured, precision)
    header = ("number format", "same label", "mean change", "99.9th percentile of change", "within limits")
    return section(f"Answers beside the CPU's float32, {len(crops)} faces", table(header, rows)), good


def repetition(network: ConcatenatedNetwork, at: Place, images: Tensor) -> tuple[str, bool]:
    """Recorded passes beside eager ones, for batches that are padded and cut: a section, and whether they agree."""
    rows, good = [], True
    for precision in at.precisions:
        forward = forward_pass(deepcopy(network), at.device, precision)
        both = [FixedBatches(forward, images.shape[-1], at.device, record) for record in (at.record, eager)]
        pieces = [images[:count] for count in ODD_COUNTS if count <= len(images)]
        off = float(np.max([np.abs(both[0](piece) - both[1](piece)).max() for piece in pieces]))  # keeps a NaN
        # Another kernel may be chosen for the recorded pass: its rounding is then allowed, in the format's own steps.
        allowed = 1e-3 if precision == "float32" else 0.1
        rows.append((precision, f"{off:.0e}", _verdict(off <= allowed)))
        good &= off <= allowed
    header = ("number format", "largest difference of outputs", "within limits")
    return section("Recorded passes beside eager ones", table(header, rows)), good


class Hungry:
    """Stands for an encoder with memory for two faces: more of them ask the device for what it cannot have."""

    def __init__(self, device: torch.device) -> None:
        self.input = InputSpec(112, "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "arcface-1")
        self._device = device
        self.sizes: list[int] = []

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        """One number a crop, its mean; DeviceMemoryError for more than two crops."""
        self.sizes.append(len(crops))
        if len(crops) > 2:
            try:
                torch.empty(1 << 48, dtype=torch.uint8, device=self._device)
            except RuntimeError as error:  # which torch's own error of a GPU is, too
                raise DeviceMemoryError(str(error)) from error
        return [np.array([crop.mean()]) for crop in crops]


def small_memory(at: Place, crops: Sequence[Crop]) -> tuple[str, bool]:
    """A device that runs out of memory: batches are halved, nothing is lost, and later batches stay small."""
    hungry = Hungry(at.device)
    replicas: list[Encoder] = [hungry]  # type: ignore[list-item]

    async def story() -> list[Estimate]:
        limits = BatchLimits(8)
        batcher = BatchedEncoder(replicas, limits, Watchdog(60), observer=NoObserver()).batcher
        found = [*await batcher.submit_many(crops), *await batcher.submit_many(crops)]
        await batcher.close()
        return found

    values = [float(value) for estimate in asyncio.run(story()) for value in estimate.features]
    good = values == [float(crop.mean()) for crop in crops] * 2 and hungry.sizes[-1] <= 2
    text = f"Batches that were tried: {hungry.sizes}. As it should be: {_verdict(good)}."
    return section("Out of memory", text), good


def _verdict(good: bool) -> str:
    return "yes" if good else "NO"
