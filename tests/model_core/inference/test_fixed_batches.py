from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model_core.inference.fixed_batches import BATCH_SIZES, FixedBatches, Record, cuda_graph, eager
from model_core.inference.runtimes import DeviceMemoryError
from model_core.inference.torch_runtime import on_a_gpu

CPU = torch.device("cpu")


def first_and_sum(images: Tensor) -> Tensor:
    """[B, 3, S, S] -> [B, 2]: an image's first number, and the sum of all."""
    flat = images.flatten(1)
    return torch.stack([flat[:, 0], flat.sum(dim=1)], dim=1)


def rising(count: int) -> Tensor:
    """[count, 3, 2, 2]: image i holds i + 1 throughout."""
    return torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def noted(sizes: list[int], limit: int = 1000) -> Record:
    """`eager` that notes the sizes it repeats, on a device that has memory for `limit` images."""

    def record(forward: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

        def repeat() -> Tensor:
            sizes.append(len(images))
            return forward(images)

        return repeat

    return record


@given(st.lists(st.integers(1, 80), min_size=1, max_size=4))
def test_answers_do_not_depend_on_the_padding_or_on_earlier_batches(counts: list[int]) -> None:
    run = FixedBatches(first_and_sum, 2, CPU, eager)
    for count in counts:
        found = run(rising(count))
        assert found.dtype == np.float64
        assert found.tolist() == [[i, 12 * i] for i in range(1, count + 1)]


@pytest.mark.parametrize(
    ("count", "passes"), [(1, [1]), (2, [2]), (3, [4]), (9, [16]), (32, [32]), (33, [32, 1]), (70, [32, 32, 8])]
)
def test_the_next_size_is_taken(count: int, passes: list[int]) -> None:
    sizes: list[int] = []
    FixedBatches(first_and_sum, 2, CPU, noted(sizes))(rising(count))
    assert sizes == passes


def test_sizes_without_memory_are_left_out() -> None:
    sizes: list[int] = []
    run = FixedBatches(first_and_sum, 2, CPU, noted(sizes, limit=5))
    assert run.batch_sizes == (1, 2, 4)
    assert run(rising(7)).tolist() == [[i, 12 * i] for i in range(1, 8)]
    assert sizes == [4, 4]


def test_a_device_without_memory_for_one_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        FixedBatches(first_and_sum, 2, CPU, noted([], limit=0))
    with pytest.raises(ValueError, match="there are no batch sizes"):
        FixedBatches(first_and_sum, 2, CPU, eager, ())


@pytest.mark.gpu
def test_graphs_repeat_what_was_recorded() -> None:
    run = FixedBatches(first_and_sum, 2, torch.device("cuda"), cuda_graph)
    assert run.batch_sizes == BATCH_SIZES
    for count in (3, 40, 1):
        assert run(rising(count)).tolist() == [[i, 12 * i] for i in range(1, count + 1)]


def test_a_lack_of_memory_later_is_an_error_that_needs_no_torch() -> None:
    def record(forward: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
        def repeat() -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return repeat

    run = on_a_gpu(FixedBatches(first_and_sum, 2, CPU, record))
    with pytest.raises(DeviceMemoryError, match="no memory for 3 faces at once"):
        run(rising(3).numpy())
    assert on_a_gpu(FixedBatches(first_and_sum, 2, CPU, eager))(rising(2).numpy()).tolist() == [[1, 12], [2, 24]]
