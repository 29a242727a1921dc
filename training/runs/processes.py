"""The processes that share a training run, as `torchrun` starts them; a run by itself is a group of one.

A step's gradients are summed by one plain all-reduce between the backward pass and the optimizer.
DistributedDataParallel would do it in hooks on the network's forward call; a step here calls the network by its parts,
and goes backward only after the whole batch's outputs are known (`training.runs.step`).
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
    """This process's place, `rank`, in [0, count), in a group of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes checkpoints and logs and shows the bar: the first one."""
        return self.rank == 0

    def share(self, length: int) -> slice:
        """This process's part of so many things: in the order of ranks the parts make the whole."""
        return slice(length * self.rank // self.count, length * (self.rank + 1) // self.count)

    def gather(self, values: Tensor) -> Tensor:
        """[n, ...] of each process, all of one shape -> [count * n, ...] in the order of ranks, without gradients."""
        if self.count == 1:
            return values.detach()
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values.detach().contiguous())
        return torch.cat(parts)

    def gather_objects(self, value: T) -> list[T]:
        """Each process's value, in the order of ranks, by pickle."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, of one dtype and device, by its sum over the processes."""
        if self.count == 1:
            return
        joined = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(joined)
        for tensor, part in zip(tensors, joined.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


ALONE = Processes()


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """The group that `torchrun` made (nccl on CUDA, gloo elsewhere), or this process alone where it did not start it.

    After an error the group is left as it is: `torchrun` ends the other processes when this one ends.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    cuda = device.type == "cuda"
    dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    yield Processes(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()
