"""An encoder that bundles share: their one backbone on a device, and what is read off its vector there.

Bundles share an encoder where backbone, weights and input are the same; it then runs once a crop for all of them.
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
from model_core.inference.runtimes import JoinedNetwork, RuntimeOptions, build_joined
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import to_batch

Features: TypeAlias = NDArray[np.float64]
"""One face's features, [F]: framewise bundles' outputs one after another, then the vector for temporal ones."""


class SharedNetwork(nn.Module):
    """A backbone, and the outputs of several networks' heads on its vector; `keep_vector` adds the vector itself."""

    def __init__(self, backbone: nn.Module, networks: Sequence[JoinedNetwork], *, keep_vector: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.networks = nn.ModuleList(networks)
        self._keep_vector = keep_vector

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, S, S] -> [B, F]."""
        vector = self.backbone(x)
        parts = [network(vector) for network in self.networks]
        return torch.cat([*parts, vector] if self._keep_vector else parts, dim=1)


class Encoder:
    """The shared backbone of some bundles on a device. Calls must not overlap: one thread owns it."""

    def __init__(self, bundles: Sequence[Bundle], device: torch.device, options: RuntimeOptions) -> None:
        """`bundles`: one group of `grouped`. Raises what build_joined raises."""
        first = bundles[0].manifest
        self.input = first.input
        framewise = [bundle for bundle in bundles if bundle.manifest.temporal is None]
        heads = [
            JoinedNetwork(without_backbone(bundle.network), tuple(bundle.manifest.network.widths))
            for bundle in framewise
        ]
        keep_vector = len(framewise) < len(bundles)
        self.columns, self.width = _columns(bundles, first.network.vector_size)
        """columns: of the features, those that each bundle is about, in their order. width: the features' number."""
        shared = SharedNetwork(folded(bundles[0].network).backbone, heads, keep_vector=keep_vector)
        self._run = build_joined(shared.eval(), self.input.size, device, options)

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        """What the bundles need of crops of the input's size and alignment, uint8 [S, S, 3] RGB, in their order.

        Raises ValueError on a crop of another shape; nothing is computed then.
        """
        return list(self._run(to_batch(crops, self.input))) if crops else []


def grouped(bundles: Sequence[Bundle]) -> list[list[int]]:
    """Positions of bundles by the encoder that they share."""
    groups: list[list[int]] = []
    for position, bundle in enumerate(bundles):
        for group in groups:
            if _share(bundles[group[0]], bundle):
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


def without_backbone(network: AffectNetwork) -> AffectNetwork:
    """A copy for inference that takes the backbone's vectors in place of images."""
    heads, recurrent = deepcopy(dict(network.heads.items())), deepcopy(network.recurrent)
    return AffectNetwork(nn.Identity(), heads, recurrent).eval().requires_grad_(False)


def _columns(bundles: Sequence[Bundle], vector_size: int) -> tuple[tuple[slice, ...], int]:
    widths = [0 if bundle.manifest.temporal else sum(bundle.manifest.network.widths.values()) for bundle in bundles]
    outputs = sum(widths)
    vector = slice(outputs, outputs + vector_size)
    columns = tuple(
        vector if bundle.manifest.temporal else slice(sum(widths[:i]), sum(widths[: i + 1]))
        for i, bundle in enumerate(bundles)
    )
    return columns, max(part.stop for part in columns)


def _share(one: Bundle, other: Bundle) -> bool:
    a, b = one.manifest, other.manifest
    if (a.input, a.network.backbone, a.network.tower) != (b.input, b.network.backbone, b.network.tower):
        return False
    weights, others = one.network.backbone.state_dict(), other.network.backbone.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
