"""DDAMFN with local features: beside what is on the face, where on the face it is.

The GDConv makes one number of each channel's 7 x 7 map, by one kernel for all that the channel shows. Action units are
small changes at a place. These features begin at the trunk's 28 x 28 map, whose cells are 4 pixels wide, before it is
halved again: what the 14 x 14 map still knew of lids and corners of the mouth was less. A dense layer keeps the place.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.models.ddamfn import DDAMFN, VECTOR_SIZE, ConvBlock, ConvNorm, DDAMFNParts

MAP_SHAPE = (64, 28, 28)
"""Of the map that local features read."""

LOCAL_SIZE = 384
_MAP_STAGES = 4
_WIDTH = 96
_REDUCED = 32


class LocalFeatures(nn.Sequential):
    """A map [B, 64, 28, 28] -> [B, 384]: half as long a side, fewer channels, then a dense layer, as a convolution."""

    def __init__(self) -> None:
        channels, side, _ = MAP_SHAPE
        super().__init__(
            ConvNorm(channels, channels, 3, padding=1, groups=channels),
            ConvBlock(channels, channels, 1),
            ConvBlock(channels, _WIDTH, 3, stride=2, padding=1),
            ConvBlock(_WIDTH, _REDUCED, 1),
            ConvBlock(_REDUCED, LOCAL_SIZE, side // 2),
            nn.Flatten(),
        )


class LocalDDAMFN(DDAMFN):
    """DDAMFN, its vector followed by the local features of an early map of its trunk."""

    vector_size = VECTOR_SIZE + LOCAL_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalFeatures()

    def parts(self, x: Tensor) -> DDAMFNParts:
        """float [B, 3, 112, 112] -> as DDAMFN's, with a vector [B, 896]."""
        parts, early = self.without_local(x)
        return replace(parts, vector=self.with_local(parts.vector, early))

    def without_local(self, x: Tensor) -> tuple[DDAMFNParts, Tensor]:
        """float [B, 3, 112, 112] -> DDAMFN's parts, with a vector [B, 512], and the map [B, 64, 28, 28]."""
        early = self.features[:_MAP_STAGES](x)
        return self.attend(self.features[_MAP_STAGES:](early)), early

    def with_local(self, vector: Tensor, early: Tensor) -> Tensor:
        """DDAMFN's vector [B, 512] and the map [B, 64, 28, 28] -> the vector that task heads read, [B, 896]."""
        return torch.cat([vector, self.local(early)], dim=1)
