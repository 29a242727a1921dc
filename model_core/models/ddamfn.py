"""DDAMFN: mixed depthwise features, dual-direction attention, global depthwise convolution (Zhang et al., 2023).

Layers and key names follow the published network, so that its `state_dict` loads once the entries that it never
executes are dropped (see training/import_checkpoint.py). Images are float [B, 3, 112, 112]; the last map is 7 x 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VECTOR_SIZE = 512
"""Width of the vector that task heads take."""


@dataclass(frozen=True)
class DDAMFNParts:
    """The vector together with the maps that training needs."""

    vector: Tensor
    """[B, D], which task heads take."""

    features: Tensor
    """[B, 512, 7, 7], the trunk's map."""

    attention: tuple[Tensor, ...]
    """One map [B, 512, 7, 7] for each attention head."""


class ConvNorm(nn.Module):
    """A convolution without bias, followed by batch norm."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride=stride, padding=padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C_out, H', W'] for a map [B, C_in, H, W]."""
        y: Tensor = self.bn(self.conv(x))
        return y


class ConvBlock(ConvNorm):
    """A ConvNorm, followed by PReLU with one slope for each channel."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding, groups=groups)
        self.prelu = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C_out, H', W'] for a map [B, C_in, H, W]."""
        y: Tensor = self.prelu(super().forward(x))
        return y


class WholeMapBlock(ConvBlock):
    """A ConvBlock whose kernel covers its whole map, so that it is a dense layer; `folding` computes it as one."""


class MixedDepthwise(nn.Module):
    """Depthwise convolutions of several kernel sizes, each on its own slice of the channels.

    Source: MixConv (Tan & Le, BMVC 2019).
    """

    def __init__(self, split: Sequence[tuple[int, int]], stride: int) -> None:
        """Take the kernel size and the number of channels of each slice."""
        super().__init__()
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False)
            for kernel, channels in split
        )
        self._sizes = [channels for _, channels in split]
        self.width = sum(self._sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C, H / stride, W / stride] for a map [B, C, H, W]."""
        parts = x.split(self._sizes, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.mixed_depthwise_conv, parts, strict=True)], dim=1)


class DirectionGates(nn.Module):
    """The part that both attentions share: it computes a gate for each row and column from their descriptors."""

    def __init__(self, channels: int, mid: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, mid, 1)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, channels, 1)
        self.conv3 = nn.Conv2d(mid, channels, 1)

    def gates(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return gates [B, C, H, W] in (0, 1) for descriptors of rows, [B, C, H, 1], and of columns, [B, C, 1, W]."""
        y_rows, y_columns = self._reduced(rows, columns)
        gated: Tensor = self.conv2(y_rows).sigmoid() * self.conv3(y_columns).sigmoid()
        return gated

    def _reduced(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return descriptors of rows and of columns in fewer channels, [B, M, H, 1] and [B, M, 1, W]."""
        if not self.training:  # each place is computed by itself, so joining both would only copy them
            return self._squeezed(rows), self._squeezed(columns)
        # A batch norm that learns measures both together.
        both = self._squeezed(torch.cat([rows, columns.transpose(2, 3)], dim=2))
        y_rows, y_columns = both.split([rows.shape[2], columns.shape[3]], dim=2)
        return y_rows, y_columns.transpose(2, 3)

    def _squeezed(self, x: Tensor) -> Tensor:
        return F.hardswish(self.bn1(self.conv1(x)))


class CoordinateAttention(DirectionGates):
    """Coordinate attention (Hou et al., CVPR 2021): averages over each axis gate the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C, H, W] for a map [B, C, H, W]."""
        # Adaptive pooling would compute the same means, but takes a tenth of the network's time.
        return x * self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))


class MixedBlock(nn.Module):
    """A 1x1 expansion, mixed depthwise convolution, coordinate attention and a 1x1 projection; a skip is optional."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        split: Sequence[tuple[int, int]],
        *,
        stride: int = 1,
        skip: bool = False,
    ) -> None:
        super().__init__()
        width = sum(channels for _, channels in split)
        self.conv = ConvBlock(channels_in, width, 1)
        self.conv_dw = MixedDepthwise(split, stride)
        self.CA = CoordinateAttention(width, max(8, width // 32))
        self.project = ConvNorm(width, channels_out, 1)
        self._skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C_out, H / stride, W / stride] for a map [B, C_in, H, W]."""
        y: Tensor = self.project(self.CA(self.conv_dw(self.conv(x))))
        return x + y if self._skip else y


class MixedStage(nn.Module):
    """A sequence of equal residual MixedBlocks."""

    def __init__(self, channels: int, split: Sequence[tuple[int, int]], repeats: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(MixedBlock(channels, channels, split, skip=True) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C, H, W] for a map [B, C, H, W]."""
        y: Tensor = self.model(x)
        return y


class DirectionAttention(DirectionGates):
    """Coordinate attention with learned depthwise pools, which returns its gates instead of applying them."""

    def __init__(self, channels: int, side: int, mid: int) -> None:
        super().__init__(channels, mid)
        self.Linear_h = ConvNorm(channels, channels, (1, side), groups=channels)
        self.Linear_w = ConvNorm(channels, channels, (side, 1), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return gates [B, C, side, side] for a map [B, C, side, side]."""
        return self.gates(self.Linear_h(x), self.Linear_w(x))


class AttentionHead(nn.Module):
    """One dual-direction attention head; the extra level matches the published key names (`cat_head0.CoordAtt.…`)."""

    def __init__(self) -> None:
        super().__init__()
        self.CoordAtt = DirectionAttention(VECTOR_SIZE, side=7, mid=16)

    def forward(self, x: Tensor) -> Tensor:
        """Return gates [B, 512, 7, 7] for a map [B, 512, 7, 7]."""
        y: Tensor = self.CoordAtt(x)
        return y


def mixed_feature_trunk() -> nn.Sequential:
    """Return the mixed feature network, which maps images [B, 3, S, S] to [B, 512, S / 16, S / 16].

    Its stages are the keys `features.0` to `features.8` of the published network.
    """
    return nn.Sequential(
        ConvBlock(3, 64, 3, stride=2, padding=1),
        ConvBlock(64, 64, 3, padding=1, groups=64),
        MixedBlock(64, 64, [(3, 64), (5, 32), (7, 32)], stride=2),
        MixedStage(64, [(3, 96), (5, 32)], repeats=9),
        MixedBlock(64, 128, [(3, 128), (5, 64), (7, 64)], stride=2),
        MixedStage(128, [(3, 192), (5, 64)], repeats=16),
        MixedBlock(128, 256, [(3, 256), (5, 256), (7, 256), (9, 256)], stride=2),
        MixedStage(256, [(3, 172), (5, 170), (7, 170)], repeats=6),
        ConvBlock(256, VECTOR_SIZE, 1),
    )


class PooledMFN(nn.Module):
    """The trunk with a mean over its map, which takes any input size and so trains cheaply on small crops.

    `DDAMFN.start_from` continues from it at full resolution.
    """

    vector_size = VECTOR_SIZE
    input_size = None

    def __init__(self) -> None:
        super().__init__()
        self.features = mixed_feature_trunk()
        self.bn = nn.BatchNorm1d(VECTOR_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors [B, 512] for images, float [B, 3, S, S]."""
        y: Tensor = self.bn(self.features(x).mean(dim=(2, 3)))
        return y


class DDAMFN(nn.Module):
    """The full network up to the vector of 512 numbers that task heads take."""

    vector_size = VECTOR_SIZE
    input_size = 112

    def __init__(self) -> None:
        super().__init__()
        self.features = mixed_feature_trunk()
        self.cat_head0 = AttentionHead()
        self.cat_head1 = AttentionHead()
        self.Linear = ConvNorm(VECTOR_SIZE, VECTOR_SIZE, 7, groups=VECTOR_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors [B, 512] for images, float [B, 3, 112, 112]."""
        return self.parts(x).vector

    def parts(self, x: Tensor) -> DDAMFNParts:
        """Return the vector with the maps that the attention loss needs, for images, float [B, 3, 112, 112]."""
        return self.attend(self.features(x))

    def attend(self, features: Tensor) -> DDAMFNParts:
        """Return the parts for the trunk's map [B, 512, 7, 7]: everything after the trunk."""
        attention = (self.cat_head0(features), self.cat_head1(features))
        vector = self.Linear(features * torch.maximum(*attention)).flatten(1)
        return DDAMFNParts(vector, features, attention)

    def start_from(self, pooled: PooledMFN) -> None:
        """Copy a trained PooledMFN's trunk and norm, and its mean as the kernel of the global depthwise convolution.

        Trained heads still fit the vector then, because the norm absorbs the attention's scale.
        """
        self.features.load_state_dict(pooled.features.state_dict())
        self.Linear.bn.load_state_dict(pooled.bn.state_dict())
        nn.init.constant_(self.Linear.conv.weight, 1 / self.Linear.conv.weight[0].numel())
