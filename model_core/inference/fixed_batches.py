"""A network that runs at a few fixed batch sizes only, which is what CUDA graphs need.

A graph repeats the kernels of a recorded pass at one stroke, on the same memory: launching them one by one takes longer
than a small batch's arithmetic. `cuda_graph` has not been run on a GPU yet; all else here is tested on CPUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH_SIZES = (1, 2, 4, 8, 16, 32)

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""float32 [B, 3, S, S] on a device -> [B, D] on it."""

Record: TypeAlias = Callable[[Forward, Tensor], Callable[[], Tensor]]
"""A pass and the memory of its input, [N, 3, S, S] -> a function that repeats it on what is there by then: [N, D]."""

_WARM_UPS = 3


def eager(forward: Forward, images: Tensor) -> Callable[[], Tensor]:
    """The Record that records nothing: any device, and what graphs are compared with."""
    return lambda: forward(images)


def cuda_graph(forward: Forward, images: Tensor) -> Callable[[], Tensor]:
    """The Record of CUDA graphs. Raises torch.OutOfMemoryError where the pass does not fit.

    While it is recorded, cuDNN looks for the fastest kernels of this size, and float32 is not shortened to TF32.
    """
    with torch.cuda.device(images.device), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # warming up beside the main stream is what recording asks for
            for _ in range(_WARM_UPS):
                forward(images)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # The stream is named, for the default one belongs to whichever device was first.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            output = forward(images)

    def replay() -> Tensor:
        with torch.cuda.device(images.device):
            graph.replay()
        return output

    return replay


@dataclass(frozen=True)
class _Slot:
    """A batch size: its input in host memory and on the device, and the recorded pass."""

    host: Tensor
    images: Tensor
    replay: Callable[[], Tensor]


class FixedBatches:
    """A Runtime: batches are padded up to the next of some sizes, and those beyond the largest are cut into pieces.

    One thread at a time. On a GPU host memory is pinned, so that copies do not pass through another buffer.
    """

    def __init__(
        self,
        forward: Forward,
        size: int,
        device: torch.device,
        record: Record,
        batch_sizes: Sequence[int] = BATCH_SIZES,
    ) -> None:
        """Record a pass for each of `batch_sizes`, crops of `size` pixels; sizes without enough memory are left out.

        Raises torch.OutOfMemoryError if that leaves none, ValueError without sizes.
        """
        self._slots: dict[int, _Slot] = {}
        failure: Exception = ValueError("there are no batch sizes")
        for count in sorted(batch_sizes):
            try:
                self._slots[count] = _slot(forward, (count, 3, size, size), device, record)
            except torch.OutOfMemoryError as error:
                failure = error
                break
        if not self._slots:
            raise failure

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes that there is memory for, rising."""
        return tuple(self._slots)

    def __call__(self, batch: Tensor) -> NDArray[np.float64]:
        """float32 [B, 3, S, S] in host memory -> float64 [B, D], B >= 1."""
        return np.concatenate([self._run(piece) for piece in batch.split(self.batch_sizes[-1])])

    def _run(self, batch: Tensor) -> NDArray[np.float64]:
        count = len(batch)
        slot = self._slots[next(size for size in self.batch_sizes if size >= count)]
        slot.host[:count] = batch
        # Behind it is what an earlier batch left there, whose answers are not looked at.
        slot.images[:count].copy_(slot.host[:count], non_blocking=True)
        # Waits for the device: by then it has read the host's memory, too, and the next batch may overwrite it.
        return np.asarray(slot.replay()[:count].cpu().double().numpy())


def _slot(forward: Forward, shape: tuple[int, ...], device: torch.device, record: Record) -> _Slot:
    host = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    if device.type == "cuda":
        host = host.pin_memory()
    images = torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)
    return _Slot(host, images, record(forward, images))
