"""Batch norms in training: fixed, shared among processes, or measured anew on averaged weights."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from training.runs.processes import Processes


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """Return every batch norm of a network."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def fix_norms(network: nn.Module) -> None:
    """Let batch norms use their running statistics, as in serving, without updating them."""
    for norm in batch_norms(network):
        norm.eval()


def share_norms(network: nn.Module, processes: Processes, device: torch.device) -> None:
    """On CUDA, replace batch norms, in place, by ones that see the parts of all processes.

    PyTorch has no such norm for the CPU; there each process normalises by its own part, like a smaller batch.
    """
    if processes.count > 1 and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)


def measure_norms(network: nn.Module, images: Iterable[Tensor], processes: Processes, device: torch.device) -> None:
    """Replace running statistics by averages over these batches [B, 3, S, S], and over the processes."""
    update_bn(images, network, device)
    statistics = [
        value for norm in batch_norms(network) for value in (norm.running_mean, norm.running_var) if value is not None
    ]
    processes.add_up(statistics)
    for value in statistics:
        value.div_(processes.count)
