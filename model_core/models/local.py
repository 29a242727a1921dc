"""DDAMFN with local features, which add to its vector where on the face something is.

DDAMFN's global depthwise convolution reduces each channel's 7 x 7 map to one number, with one kernel, but action units
are small changes at certain places. Local features therefore start from the trunk's 28 x 28 map, whose cells are 4
pixels wide; its 14 x 14 map held less about eyelids and the corners of the mouth. A dense layer keeps the places apart.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.models.ddamfn import DDAMFN, VECTOR_SIZE, ConvBlock, ConvNorm, DDAMFNParts, WholeMapBlock
from model_core.models.face_regions import EyeRegion, MouthRegion

MAP_SHAPE = (64, 28, 28)
"""Channels, height and width of the map that local features start from."""

LOCAL_SIZE = 384
"""Number of local features."""

_MAP_STAGES = 4
"""Number of the trunk's stages up to that map."""

_WIDTH = 96
"""Channels after the stride."""

_REDUCED = 32
"""Channels before the dense layer."""


class LocalFeatures(nn.Sequential):
    """Maps an early map [B, 64, 28, 28] to local features [B, 384].

    The side is halved and channels are reduced; the dense layer at the end is written as a convolution.
    """

    def __init__(self) -> None:
        channels, side, _ = MAP_SHAPE
        super().__init__(
            ConvNorm(channels, channels, 3, padding=1, groups=channels),
            ConvBlock(channels, channels, 1),
            ConvBlock(channels, _WIDTH, 3, stride=2, padding=1),
            ConvBlock(_WIDTH, _REDUCED, 1),
            WholeMapBlock(_REDUCED, LOCAL_SIZE, side // 2),
            nn.Flatten(),
        )


class LocalDDAMFN(DDAMFN):
    """DDAMFN with a longer vector: its own 512 numbers, then the 384 local features."""

    vector_size = VECTOR_SIZE + LOCAL_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalFeatures()

    def parts(self, x: Tensor) -> DDAMFNParts:
        """Return DDAMFN's parts for images, float [B, 3, 112, 112], with the longer vector [B, D]."""
        parts, early = self.without_local(x)
        return replace(parts, vector=self.with_local(parts.vector, early))

    def without_local(self, x: Tensor) -> tuple[DDAMFNParts, Tensor]:
        """Return the parts for images, float [B, 3, 112, 112], and the early map [B, 64, 28, 28].

        The parts' vector, [B, D - 384], is the longer one without its local features.
        """
        early = self.features[:_MAP_STAGES](x)
        return self.attend(self.features[_MAP_STAGES:](early)), early

    def with_local(self, vector: Tensor, early: Tensor) -> Tensor:
        """Return the longer vector [B, D] for the one without local features and the early map [B, 64, 28, 28]."""
        return torch.cat([vector[:, :VECTOR_SIZE], self.local(early), vector[:, VECTOR_SIZE:]], dim=1)


class LocalEyesDDAMFN(LocalDDAMFN):
    """LocalDDAMFN with the 192 features of the eye region behind its 896 numbers."""

    vector_size = LocalDDAMFN.vector_size + EyeRegion.vector_size

    def __init__(self) -> None:
        super().__init__()
        self.eyes = EyeRegion()

    def without_local(self, x: Tensor) -> tuple[DDAMFNParts, Tensor]:
        """Return what LocalDDAMFN does, with the features of the eye region behind the vector."""
        parts, early = super().without_local(x)
        return replace(parts, vector=torch.cat([parts.vector, self.eyes(x)], dim=1)), early


class LocalRegionsDDAMFN(LocalEyesDDAMFN):
    """LocalEyesDDAMFN with the 96 features of the mouth's region behind its 1,088 numbers."""

    vector_size = LocalEyesDDAMFN.vector_size + MouthRegion.vector_size

    def __init__(self) -> None:
        super().__init__()
        self.mouth = MouthRegion()

    def without_local(self, x: Tensor) -> tuple[DDAMFNParts, Tensor]:
        """Return what LocalEyesDDAMFN does, with the features of the mouth's region behind the vector."""
        parts, early = super().without_local(x)
        return replace(parts, vector=torch.cat([parts.vector, self.mouth(x)], dim=1)), early
