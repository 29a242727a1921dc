"""torch networks in the form that serves, one tensor of outputs from a folded network, and runtimes of them."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.affect import AffectLogits
from model_core.bundles.bundle import Bundle
from model_core.inference import openvino_runtime
from model_core.inference.layout import EncoderLayout
from model_core.inference.runtimes import CPU_OPTIONS, Runtime, RuntimeOptions
from model_core.inference.torch_runtime import torch_runtime
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork


def concatenated(logits: AffectLogits, tasks: Sequence[str]) -> Tensor:
    """Return the logits of some tasks in one tensor [..., D], in the order of `tasks`."""
    return torch.cat([getattr(logits, task) for task in tasks], dim=-1)


class ConcatenatedNetwork(nn.Module):
    """A network that returns the logits of some tasks in one tensor, as engines expect."""

    def __init__(self, network: AffectNetwork, tasks: tuple[str, ...]) -> None:
        """Take a network and the tasks in the order of the tensor's columns."""
        super().__init__()
        self.network = network
        self._tasks = tasks

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, D] for the network's input, such as images, float [B, 3, S, S]."""
        return concatenated(self.network(x), self._tasks)


class SharedNetwork(nn.Module):
    """A backbone with several networks' heads on its vector: the columns of an EncoderLayout."""

    def __init__(self, backbone: nn.Module, networks: Sequence[ConcatenatedNetwork], *, keep_vector: bool) -> None:
        """Take networks without backbones, in the order of their columns; `keep_vector` appends the vector itself."""
        super().__init__()
        self.backbone = backbone
        self.networks = nn.ModuleList(networks)
        self._keep_vector = keep_vector

    def forward(self, x: Tensor) -> Tensor:
        """Return features [B, F] for images, float [B, 3, S, S]."""
        vector = self.backbone(x)
        parts = [network(vector) for network in self.networks]
        return torch.cat([*parts, vector] if self._keep_vector else parts, dim=1)


def shared_network(bundles: Sequence[Bundle]) -> SharedNetwork:
    """Return the network that computes the features of bundles that share an encoder, folded for inference.

    It builds the networks of all of them, so that none is served whose weights do not fit. Raises BundleError.
    """
    layout = EncoderLayout.of([bundle.manifest for bundle in bundles])
    networks = [bundle.network for bundle in bundles]
    heads = [
        ConcatenatedNetwork(_without_backbone(networks[i]), tuple(bundles[i].manifest.network.widths))
        for i in layout.framewise
    ]
    return SharedNetwork(folded(networks[0]).backbone, heads, keep_vector=layout.has_vector).eval()


def _without_backbone(network: AffectNetwork) -> AffectNetwork:
    """Return a copy for inference that takes the backbone's vectors [B, D] in place of images."""
    heads = deepcopy(dict(network.heads.items()))
    return AffectNetwork(nn.Identity(), heads).eval().requires_grad_(False)


def build_runtime(
    network: AffectNetwork, tasks: tuple[str, ...], size: int, device: str, options: RuntimeOptions
) -> Runtime:
    """Return a runtime for crops of `size` pixels that gives the logits of `tasks`, in the order of TASKS.

    Raises as `build_tensor_runtime` does.
    """
    return build_tensor_runtime(ConcatenatedNetwork(folded(network), tasks).eval(), size, device, options)


def cpu_runtimes(network: AffectNetwork, tasks: tuple[str, ...], size: int) -> list[Runtime]:
    """Return the runtimes of CPU_OPTIONS, as `build_runtime` does; those of OpenVINO share one model.

    Raises as `build_tensor_runtime` does.
    """
    model = openvino_runtime.convert(ConcatenatedNetwork(folded(network), tasks).eval(), size)  # it takes seconds
    return [
        _compiled(model, each) if each.engine == "openvino" else build_runtime(network, tasks, size, "cpu", each)
        for each in CPU_OPTIONS
    ]


def build_tensor_runtime(network: nn.Module, size: int, device: str, options: RuntimeOptions) -> Runtime:
    """Return a runtime for a network that is folded and maps images of `size` pixels to one tensor [B, D].

    Unless the options give a number of threads, it has torch's. Raises ValueError for options that the device does not
    have, ModuleNotFoundError if the extra that the engine needs is not installed, and DeviceMemoryError if a GPU has no
    room for one face.
    """
    options.check(device)
    if options.engine == "torch":
        return torch_runtime(network, size, torch.device(device), options)
    return _compiled(openvino_runtime.convert(network, size), options)


def _compiled(model: openvino_runtime.Model, options: RuntimeOptions) -> Runtime:
    return openvino_runtime.compiled(model, replace(options, threads=options.threads or torch.get_num_threads()))
