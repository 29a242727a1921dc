from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.runs.norms import batch_norms, fix_norms, measure_norms
from training.runs.processes import Processes

CPU = torch.device("cpu")


class TwinProcesses(Processes):
    """Two processes of which the other one has always the same as this."""

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(2)


def test_norms_are_measured_over_batches_and_processes() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))
    images = [torch.full((2, 1, 1, 1), value) + torch.tensor([-1.0, 1.0])[:, None, None, None] for value in (0.0, 4.0)]
    measure_norms(network, images, TwinProcesses(0, 2), CPU)
    [norm] = batch_norms(network)
    assert norm.running_mean.tolist() == [2]  # of 0 and 4
    assert norm.running_var.tolist() == [2]  # of -1 and 1, unbiased, in both batches


def test_fixed_norms_normalise_by_what_they_had() -> None:
    network = nn.Sequential(nn.BatchNorm1d(1, eps=0, affine=False)).train()
    fix_norms(network)
    assert network(torch.tensor([[3.0], [5.0]])).tolist() == [[3], [5]]
    assert network[0].running_mean.tolist() == [0]
    assert network.training
