"""Preprocessing of crops to the network's input. Training and serving both call `to_batch`, so they cannot differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from model_core.faces.alignment import TEMPLATES
from model_core.faces.geometry import Crop


@dataclass(frozen=True)
class InputSpec:
    """The input that a network expects, as its bundle records it. Raises ValueError for impossible values."""

    size: int
    """Side of the square input in pixels."""

    colour: Literal["rgb", "grey"]
    """`rgb`, or `grey` for networks trained on grey faces: luminance (ITU-R BT.601) in all three channels."""

    mean: tuple[float, float, float]
    """Mean of each channel, for pixels scaled to [0, 1]."""

    std: tuple[float, float, float]
    """Standard deviation of each channel, for pixels scaled to [0, 1]."""

    alignment: str
    """Name of the template that crops are aligned to, a key of `alignment.TEMPLATES`."""

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("the size must be positive, and mean and std must hold a number for each channel")
        if not all(isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std must be positive")
        if self.colour not in ("rgb", "grey"):
            raise ValueError(f"unknown colour {self.colour!r}; known: rgb, grey")
        if self.alignment not in TEMPLATES:
            raise ValueError(f"unknown alignment {self.alignment!r}; known: {', '.join(TEMPLATES)}")


def to_batch(crops: Sequence[Crop], spec: InputSpec) -> Tensor:
    """Return crops, each uint8 [size, size, 3] RGB, as normalised images, float32 [B, 3, size, size].

    Memory has channels innermost. Raises ValueError for a crop of another shape or type.
    """
    shape = (spec.size, spec.size, 3)
    for crop in crops:
        if crop.shape != shape or crop.dtype != np.uint8:
            raise ValueError(f"the crop is {crop.dtype} {crop.shape}, but the model expects uint8 {shape}")
    if spec.colour == "grey":
        planes = torch.from_numpy(np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]))
        pixels = planes[:, None].expand(-1, 3, -1, -1)
    else:
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    mean = torch.tensor(spec.mean).view(3, 1, 1)
    std = torch.tensor(spec.std).view(3, 1, 1)
    batch = (pixels.float() / 255 - mean) / std
    # Convolutions run faster with channels innermost.
    return batch.contiguous(memory_format=torch.channels_last)
