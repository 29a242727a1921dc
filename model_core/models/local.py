"""DDAMFN with local features: beside what is on the face, where on the face it is.

The GDConv makes one number of each channel's 7 x 7 map, by one kernel for all that the channel shows. Action units are
small changes at a place. A dense layer over the trunk's 14 x 14 map, whose cells are 8 pixels wide, keeps the place.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.models.ddamfn import DDAMFN, VECTOR_SIZE, ConvBlock, DDAMFNParts

MAP_SHAPE = (128, 14, 14)
"""Of the map that local features read."""

LOCAL_SIZE = 384
_MAP_STAGES = 6
_REDUCED = 32
_MAP_DROPOUT = 0.1
_FEATURE_DROPOUT = 0.3


class LocalFeatures(nn.Sequential):
    """A map [B, 128, 14, 14] -> [B, 384]: fewer channels, then a dense layer, as a convolution of the map's size."""

    def __init__(self) -> None:
        channels, side, _ = MAP_SHAPE
        super().__init__(
            ConvBlock(channels, _REDUCED, 1),
            nn.Dropout(_MAP_DROPOUT),
            ConvBlock(_REDUCED, LOCAL_SIZE, side),
            nn.Flatten(),
            nn.Dropout(_FEATURE_DROPOUT),
        )


class LocalDDAMFN(DDAMFN):
    """DDAMFN, its vector followed by the local features of the map in the middle of its trunk."""

    vector_size = VECTOR_SIZE + LOCAL_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalFeatures()

    def parts(self, x: Tensor) -> DDAMFNParts:
        """float [B, 3, 112, 112] -> as DDAMFN's, with a vector [B, 896]."""
        parts, middle = self.without_local(x)
        return replace(parts, vector=self.with_local(parts.vector, middle))

    def without_local(self, x: Tensor) -> tuple[DDAMFNParts, Tensor]:
        """float [B, 3, 112, 112] -> DDAMFN's parts, with a vector [B, 512], and the map [B, 128, 14, 14]."""
        middle = self.features[:_MAP_STAGES](x)
        return self.attend(self.features[_MAP_STAGES:](middle)), middle

    def with_local(self, vector: Tensor, middle: Tensor) -> Tensor:
        """DDAMFN's vector [B, 512] and the map [B, 128, 14, 14] -> the vector that task heads read, [B, 896]."""
        return torch.cat([vector, self.local(middle)], dim=1)
