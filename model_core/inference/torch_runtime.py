"""The engine torch: a network's forward pass on a device, in a number format."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.inference.fixed_batches import FixedBatches, Forward, cuda_graph
from model_core.inference.runtimes import DeviceMemoryError, Precision, Runtime, RuntimeOptions
from model_core.preprocessing import Images

_LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_runtime(network: nn.Module, size: int, device: torch.device, options: RuntimeOptions) -> Runtime:
    """Return a runtime for a network that is folded and maps images of `size` pixels to one tensor [B, D].

    On a GPU it runs as CUDA graphs, which are recorded here and take seconds, once. That has not been run on a GPU yet.
    `options.threads` holds for the whole process. Raises DeviceMemoryError if a GPU has no room for one face.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    forward = forward_pass(network, device, options.precision)
    if device.type != "cuda":
        return lambda images: np.asarray(forward(torch.from_numpy(images)).double().numpy())
    try:
        graphs = FixedBatches(forward, size, device, cuda_graph)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(f"{device} has no memory for the network and one face") from error
    return on_a_gpu(graphs)


def held_bytes(device: str) -> int:
    """Return how much memory of a GPU torch holds for this process; 0 before anything is on it."""
    return torch.cuda.memory_reserved(device)


def on_a_gpu(graphs: FixedBatches) -> Runtime:
    """Return a runtime of recorded passes that tells a lack of memory as DeviceMemoryError."""

    def run(images: Images) -> NDArray[np.float64]:
        try:
            return graphs(torch.from_numpy(images))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise DeviceMemoryError(f"no memory for {len(images)} faces at once") from error

    return run


def forward_pass(network: nn.Module, device: torch.device, precision: Precision) -> Forward:
    """Move a network to a device, with channels innermost, and return its forward pass without gradients.

    The pass takes images, float32 [B, 3, S, S] on the device, and returns the network's output there.
    """
    network = network.to(device).to(memory_format=torch.channels_last)
    low = _LOW.get(precision)
    if low is not None and device.type == "cuda":
        convert_weights(network, low)

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, low, enabled=low is not None):
            output: Tensor = network(images)
            return output

    return forward


def convert_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert in place, once, the weights that autocast would convert in each pass. The outputs stay the same."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
