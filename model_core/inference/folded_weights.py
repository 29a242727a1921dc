"""A backbone's weights as its graph takes them: batch norms are folded into convolutions, and mixed kernels merged.

This is what `models.folding` does to torch's networks, by the names of the weights and without torch. OpenVINO would
compute the same from the weights as they are, which takes longer than everything else at the start.
"""

import numpy as np
from numpy.typing import NDArray

from model_core.bundles.bundle import Weights

NORM_EPSILON = np.float32(1e-5)
"""Is added to the variances of batch norms; torch's default, which all backbones keep."""

_MIXED = ".mixed_depthwise_conv."


def folded_weights(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Return the weights of the folded network by name, for whole weights of a backbone, float16 or float32."""
    found = {name: array.astype(np.float32) for name, array in weights.items()}
    for mean in [name for name in found if name.endswith(".running_mean")]:
        _fold(found, mean.removesuffix(".running_mean"))
    for mixed in dict.fromkeys(name.partition(_MIXED)[0] for name in found if _MIXED in name):
        _merge(found, mixed)
    return found


def _fold(weights: dict[str, NDArray[np.float32]], norm: str) -> None:
    """Fold a batch norm, such as `local.0.bn`, into the convolution beside it, in place."""
    parent, _, own = norm.rpartition(".")
    conv = f"{parent}.{own.replace('bn', 'conv')}"
    scale = weights.pop(f"{norm}.weight") / np.sqrt(weights.pop(f"{norm}.running_var") + NORM_EPSILON)
    shift = weights.get(f"{conv}.bias", np.float32(0)) - weights.pop(f"{norm}.running_mean")
    weights[f"{conv}.weight"] = weights[f"{conv}.weight"] * scale[:, None, None, None]
    weights[f"{conv}.bias"] = weights.pop(f"{norm}.bias") + shift * scale


def _merge(weights: dict[str, NDArray[np.float32]], mixed: str) -> None:
    """Put one kernel of the largest size in place of a MixedDepthwise's, in place."""
    names = [name for name in weights if name.startswith(mixed + _MIXED)]
    kernels = [weights.pop(name) for name in sorted(names, key=lambda name: int(name.split(".")[-2]))]
    side = max(kernel.shape[-1] for kernel in kernels)
    margins = [(side - kernel.shape[-1]) // 2 for kernel in kernels]
    padded = [
        np.pad(kernel, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
        for kernel, margin in zip(kernels, margins, strict=True)
    ]
    weights[f"{mixed}.weight"] = np.concatenate(padded)
