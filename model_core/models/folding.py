"""Folding of a trained network for inference: batch norms go into convolutions, and mixed kernels become one.

A convolution that covers its whole map becomes a matrix product. The folded network computes the same function in fewer
and larger steps. Bundles store the form that is trained.
"""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model_core.models.ddamfn import ConvNorm, DirectionGates, MixedBlock, MixedDepthwise, WholeMapBlock

M = TypeVar("M", bound=nn.Module)


class DenseBlock(nn.Module):
    """A folded WholeMapBlock, as a matrix product.

    OpenVINO's convolution for it answers a single image wrongly in bfloat16 (seen with 2026.4.1 on a CPU with AMX), and
    takes ten times as long.
    """

    def __init__(self, block: WholeMapBlock) -> None:
        """Take a module whose weights keep their names."""
        super().__init__()
        self.conv = block.conv
        self.prelu = block.prelu

    def forward(self, x: Tensor) -> Tensor:
        """Return a map [B, C_out, 1, 1] for a map [B, C_in, H, W]."""
        y: Tensor = self.prelu(F.linear(x.flatten(1), self.conv.weight.flatten(1), self.conv.bias))
        return y[:, :, None, None]


def folded(network: M) -> M:
    """Return a copy of a network or backbone for inference only; its outputs are equal within rounding (1e-4)."""
    network = deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            _fold(module, "conv", "bn")
        elif isinstance(module, DirectionGates):
            _fold(module, "conv1", "bn1")
        elif isinstance(module, MixedBlock):
            module.register_module("conv_dw", merged(module.conv_dw))
    for parent in list(network.modules()):
        for name, block in parent.named_children():
            if isinstance(block, WholeMapBlock):
                parent.register_module(name, DenseBlock(block))
    return network


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch norm into its convolution, and put an identity in its place."""
    conv = module.get_submodule(convolution)
    bn = module.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(bn, nn.BatchNorm2d)
    module.register_module(convolution, fuse_conv_bn_eval(conv, bn))
    module.register_module(norm, nn.Identity())


def merged(mixed: MixedDepthwise) -> nn.Conv2d:
    """Return one depthwise convolution in place of several on slices of the channels.

    It computes more, but saves splitting and concatenating the channels, which costs more time.
    """
    kernels, stride = merged_kernels(mixed.mixed_depthwise_conv)
    side = kernels.shape[-1]
    one = nn.Conv2d(mixed.width, mixed.width, side, stride, side // 2, groups=mixed.width, bias=False)
    one.weight = nn.Parameter(kernels, requires_grad=False)
    return one


def merged_kernels(convolutions: nn.ModuleList) -> tuple[Tensor, tuple[int, int]]:
    """Return the kernels [C, 1, K, K] of mixed depthwise convolutions in their largest size, and their stride.

    Smaller kernels are padded with zeros.
    """
    mixed = [conv for conv in convolutions if isinstance(conv, nn.Conv2d)]
    side = max(conv.kernel_size[0] for conv in mixed)
    stride = (mixed[0].stride[0], mixed[0].stride[1])
    return torch.cat([_padded(conv.weight, side) for conv in mixed]), stride


def _padded(weight: Tensor, side: int) -> Tensor:
    """Return kernels [C, 1, K, K], padded with zeros to [C, 1, side, side]."""
    margin = (side - weight.shape[-1]) // 2
    return F.pad(weight, (margin,) * 4)
