"""The processes that share a training run, as `torchrun` starts them; a single process is a group of one.

Gradients are summed by one plain all-reduce between the backward pass and the optimizer. DistributedDataParallel would
do it in hooks on the network's forward call, but a step here calls the parts of the network, and runs the backward pass
only once the outputs for the whole batch are known (`training.runs.step`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """A group of processes, seen by one of them."""

    rank: int = 0
    """Number of this process, in [0, count)."""
    count: int = 1
    """Number of processes in the group."""

    @property
    def leads(self) -> bool:
        """True for the first process, which writes checkpoints and logs and shows the progress bar."""
        return self.rank == 0

    def share(self, length: int) -> slice:
        """Return this process's part of `length` items; in the order of ranks, the parts make up the whole."""
        return slice(length * self.rank // self.count, length * (self.rank + 1) // self.count)

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate values [n, ...] of all processes by rank, [count * n, ...], without gradients."""
        if self.count == 1:
            return values.detach()
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values.detach().contiguous())
        return torch.cat(parts)

    def gather_objects(self, value: T) -> list[T]:
        """Return the value of each process, in the order of ranks; they travel as pickles."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes. All have one dtype and device."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


ALONE = Processes()


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the group that `torchrun` made, by nccl on CUDA and gloo elsewhere; without `torchrun`, a group of one.

    After an error the group is not closed, since `torchrun` ends the other processes when this one ends.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    cuda = device.type == "cuda"
    dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    yield Processes(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()
