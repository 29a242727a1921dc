"""A network that runs at a few fixed batch sizes only, as CUDA graphs require.

A graph replays all kernels of a recorded pass with one launch, on the same memory. For a small batch, launching the
kernels one by one takes longer than their arithmetic. `cuda_graph` has not been run on a GPU yet; everything else here
is tested on CPUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Batch sizes for which a pass is recorded."""

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""A forward pass, which maps images, float32 [B, 3, S, S] on a device, to outputs [B, D] on the same device."""

Record: TypeAlias = Callable[[Forward, Tensor], Callable[[], Tensor]]
"""Records a pass on an input buffer [N, 3, S, S] and returns a function that repeats it on the buffer: [N, D]."""

_WARM_UPS = 3


def eager(forward: Forward, images: Tensor) -> Callable[[], Tensor]:
    """A Record that records nothing and runs on any device; graphs are compared with it."""
    return lambda: forward(images)


def cuda_graph(forward: Forward, images: Tensor) -> Callable[[], Tensor]:
    """The Record of CUDA graphs. Raises torch.OutOfMemoryError if the pass does not fit.

    While it records, cuDNN searches for the fastest kernels of this size, and float32 is not shortened to TF32.
    """
    with torch.cuda.device(images.device), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # recording requires a warm-up beside the main stream
            for _ in range(_WARM_UPS):
                forward(images)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # The stream is given, because the default one belongs to whichever device was first.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            output = forward(images)

    def replay() -> Tensor:
        with torch.cuda.device(images.device):
            graph.replay()
        return output

    return replay


@dataclass(frozen=True)
class _Slot:
    """The buffers and the recorded pass of one batch size."""

    host: Tensor
    """Input in host memory, pinned if the device is a GPU."""

    images: Tensor
    """Input on the device."""

    replay: Callable[[], Tensor]
    """Repeats the pass on `images`."""


class FixedBatches:
    """A forward pass from host memory: a batch is padded to the next recorded size, and a large one cut into pieces.

    Only one thread may call it at a time. On a GPU, host memory is pinned, so that copies need no further buffer.
    """

    def __init__(
        self,
        forward: Forward,
        size: int,
        device: torch.device,
        record: Record,
        batch_sizes: Sequence[int] = BATCH_SIZES,
    ) -> None:
        """Record a pass for each of `batch_sizes`, for crops of `size` pixels.

        Sizes that do not fit the device's memory are left out. Raises torch.OutOfMemoryError if that leaves none, and
        ValueError for no batch sizes.
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
        """The batch sizes that fit the device's memory, in ascending order."""
        return tuple(self._slots)

    def __call__(self, batch: Tensor) -> NDArray[np.float64]:
        """Return the outputs, float64 [B, D], for images, float32 [B, 3, S, S] in host memory; B >= 1."""
        return np.concatenate([self._run(piece) for piece in batch.split(self.batch_sizes[-1])])

    def _run(self, batch: Tensor) -> NDArray[np.float64]:
        count = len(batch)
        slot = self._slots[next(size for size in self.batch_sizes if size >= count)]
        slot.host[:count] = batch
        # The rest of the buffer holds rows of an earlier batch, whose outputs are ignored.
        slot.images[:count].copy_(slot.host[:count], non_blocking=True)
        # This waits for the device, which has then read the host's buffer, too, so the next batch may overwrite it.
        return np.asarray(slot.replay()[:count].cpu().double().numpy())


def _slot(forward: Forward, shape: tuple[int, ...], device: torch.device, record: Record) -> _Slot:
    """Allocate the buffers of one batch size and record its pass."""
    host = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    if device.type == "cuda":
        host = host.pin_memory()
    images = torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)
    return _Slot(host, images, record(forward, images))
