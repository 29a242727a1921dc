"""A backbone shared by several bundles, with the heads evaluated on its features.

Bundles share an encoder if their backbone, its weights and the input are the same; it then runs once for each crop.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.bundles.bundle import Bundle
from model_core.faces.geometry import Crop
from model_core.inference.layout import EncoderLayout
from model_core.inference.runtimes import ConcatenatedNetwork, RuntimeOptions, build_tensor_runtime
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import to_batch

Features: TypeAlias = NDArray[np.float64]
"""One face's features, float64 [F]: the columns of an EncoderLayout, or for all encoders those of a FeatureLayout."""


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


class Encoder:
    """The backbone of one or more bundles on a device, with the heads of the framewise ones.

    Calls must not overlap: one thread owns an encoder.
    """

    def __init__(self, bundles: Sequence[Bundle], device: torch.device, options: RuntimeOptions) -> None:
        """Take bundles that share an encoder, such as a group of `grouped`. Raises as `build_tensor_runtime` does."""
        self.input = bundles[0].manifest.input
        """The input of all bundles."""

        self.layout = EncoderLayout.of([bundle.manifest for bundle in bundles])
        """The columns of the features."""

        framewise = [bundles[i] for i in self.layout.framewise]
        heads = [
            ConcatenatedNetwork(without_backbone(bundle.network), tuple(bundle.manifest.network.widths))
            for bundle in framewise
        ]
        backbone = folded(bundles[0].network).backbone
        shared = SharedNetwork(backbone, heads, keep_vector=self.layout.has_vector)
        self._run = build_tensor_runtime(shared.eval(), self.input.size, device, options)

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        """Return the features of crops, each uint8 [S, S, 3] RGB of the input's size and alignment, in their order.

        Raises ValueError for a crop of another shape; nothing is computed then.
        """
        return list(self._run(to_batch(crops, self.input))) if crops else []


def grouped(bundles: Sequence[Bundle]) -> list[list[int]]:
    """Return the positions of the bundles, grouped by the encoder that they share."""
    groups: list[list[int]] = []
    for position, bundle in enumerate(bundles):
        for group in groups:
            if _can_share(bundles[group[0]], bundle):
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


def without_backbone(network: AffectNetwork) -> AffectNetwork:
    """Return a copy for inference that takes the backbone's vectors [B, D] in place of images."""
    heads = deepcopy(dict(network.heads.items()))
    recurrent = deepcopy(network.recurrent)
    return AffectNetwork(nn.Identity(), heads, recurrent).eval().requires_grad_(False)


def _can_share(one: Bundle, other: Bundle) -> bool:
    """Return True if two bundles have the same input and backbone, weights included."""
    a, b = one.manifest, other.manifest
    if (a.input, a.network.backbone, a.network.tower) != (b.input, b.network.backbone, b.network.tower):
        return False
    weights = one.network.backbone.state_dict()
    others = other.network.backbone.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
