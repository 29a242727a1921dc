"""DDAMFN: mixed depthwise features, dual-direction attention, global depthwise convolution (Zhang et al., 2023).

Layer table and key names follow the published network, so that its `state_dict` loads after the never-executed entries
are dropped (see training/import_checkpoint.py). Input is float [B, 3, 112, 112]; the last map is 7 x 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VECTOR_SIZE = 512


@dataclass(frozen=True)
class DDAMFNParts:
    """vector: [B, D], what the heads read. features: [B, 512, 7, 7]. attention: one [B, 512, 7, 7] map a head."""

    vector: Tensor
    features: Tensor
    attention: tuple[Tensor, ...]


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm."""

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
        """[B, C_in, H, W] -> [B, C_out, H', W']."""
        y: Tensor = self.bn(self.conv(x))
        return y


class ConvBlock(ConvNorm):
    """ConvNorm, then PReLU with a slope a channel."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding, groups=groups)
        self.prelu = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H', W']."""
        y: Tensor = self.prelu(super().forward(x))
        return y


class MixedDepthwise(nn.Module):
    """Depthwise convolutions of several kernel sizes, each on its own slice of the channels (MixConv)."""

    def __init__(self, split: Sequence[tuple[int, int]], stride: int) -> None:
        super().__init__()
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False)
            for kernel, channels in split
        )
        self._sizes = [channels for _, channels in split]
        self.width = sum(self._sizes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        parts = x.split(self._sizes, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.mixed_depthwise_conv, parts, strict=True)], dim=1)


class DirectionGates(nn.Module):
    """The shared part of both attentions: one descriptor a row and a column -> one gate a row and a column."""

    def __init__(self, channels: int, mid: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, mid, 1)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, channels, 1)
        self.conv3 = nn.Conv2d(mid, channels, 1)

    def gates(self, rows: Tensor, columns: Tensor) -> Tensor:
        """rows [B, C, H, 1] and columns [B, C, 1, W] -> the product of their gates, [B, C, H, W] in (0, 1)."""
        height, width = rows.shape[2], columns.shape[3]
        y = torch.cat([rows, columns.transpose(2, 3)], dim=2)
        y = F.hardswish(self.bn1(self.conv1(y)))
        y_rows, y_columns = y.split([height, width], dim=2)
        gated: Tensor = self.conv2(y_rows).sigmoid() * self.conv3(y_columns.transpose(2, 3)).sigmoid()
        return gated


class CoordinateAttention(DirectionGates):
    """Coordinate attention (Hou et al., CVPR 2021): averages over each axis gate the input."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        # A mean over the axis: adaptive pooling computes the same and takes a tenth of the network's time.
        return x * self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))


class MixedBlock(nn.Module):
    """Expand 1x1, mixed depthwise convolution, coordinate attention, project 1x1; optionally with a skip."""

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
        """[B, C_in, H, W] -> [B, C_out, H / stride, W / stride]."""
        y: Tensor = self.project(self.CA(self.conv_dw(self.conv(x))))
        return x + y if self._skip else y


class MixedStage(nn.Module):
    """Equal residual MixedBlocks in a row."""

    def __init__(self, channels: int, split: Sequence[tuple[int, int]], repeats: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(MixedBlock(channels, channels, split, skip=True) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y: Tensor = self.model(x)
        return y


class DirectionAttention(DirectionGates):
    """Like CoordinateAttention, with learned depthwise pools, and returning the gates instead of applying them."""

    def __init__(self, channels: int, side: int, mid: int) -> None:
        super().__init__(channels, mid)
        self.Linear_h = ConvNorm(channels, channels, (1, side), groups=channels)
        self.Linear_w = ConvNorm(channels, channels, (side, 1), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, side, side] -> gates [B, C, side, side]."""
        return self.gates(self.Linear_h(x), self.Linear_w(x))


class AttentionHead(nn.Module):
    """One DDA head; the extra level exists for the published key names (`cat_head0.CoordAtt.…`)."""

    def __init__(self) -> None:
        super().__init__()
        self.CoordAtt = DirectionAttention(VECTOR_SIZE, side=7, mid=16)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 512, 7, 7] -> gates [B, 512, 7, 7]."""
        y: Tensor = self.CoordAtt(x)
        return y


def mixed_feature_trunk() -> nn.Sequential:
    """The mixed feature network (PAPER table: features.0 to features.8): [B, 3, S, S] -> [B, 512, S / 16, S / 16]."""
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
    """The trunk with a mean over its map: takes any input size, so it trains cheaply on small crops.

    `DDAMFN.start_from` continues from it at full resolution.
    """

    vector_size = VECTOR_SIZE
    input_size = None

    def __init__(self) -> None:
        super().__init__()
        self.features = mixed_feature_trunk()
        self.bn = nn.BatchNorm1d(VECTOR_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, S, S] -> [B, 512]."""
        y: Tensor = self.bn(self.features(x).mean(dim=(2, 3)))
        return y


class DDAMFN(nn.Module):
    """The full network up to the 512-d vector that task heads read."""

    vector_size = VECTOR_SIZE
    input_size = 112

    def __init__(self) -> None:
        super().__init__()
        self.features = mixed_feature_trunk()
        self.cat_head0 = AttentionHead()
        self.cat_head1 = AttentionHead()
        self.Linear = ConvNorm(VECTOR_SIZE, VECTOR_SIZE, 7, groups=VECTOR_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, 112, 112] -> [B, 512]."""
        return self.parts(x).vector

    def parts(self, x: Tensor) -> DDAMFNParts:
        """float [B, 3, 112, 112] -> the vector with the maps that the attention loss needs."""
        return self.attend(self.features(x))

    def attend(self, features: Tensor) -> DDAMFNParts:
        """All above the trunk: its map, [B, 512, 7, 7], to the vector."""
        attention = (self.cat_head0(features), self.cat_head1(features))
        vector = self.Linear(features * torch.maximum(*attention)).flatten(1)
        return DDAMFNParts(vector, features, attention)

    def start_from(self, pooled: PooledMFN) -> None:
        """Take over a trained PooledMFN: its trunk and norm, and its mean as the GDConv's kernel.

        The heads on top then keep their meaning, since the norm absorbs the attention's scale.
        """
        self.features.load_state_dict(pooled.features.state_dict())
        self.Linear.bn.load_state_dict(pooled.bn.state_dict())
        nn.init.constant_(self.Linear.conv.weight, 1 / self.Linear.conv.weight[0].numel())
