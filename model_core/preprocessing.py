"""From crops to the network's input. Training and service both call `to_batch`, so the two cannot drift apart."""

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
    """What a network expects of its input; it travels in the bundle and nowhere else.

    size: side of the square input in pixels. colour: `rgb`, or `grey` for networks trained on grey faces, which get
    luminance (ITU-R BT.601) in all three channels. mean and std: per channel, for pixels scaled to [0, 1]. alignment: a
    key of `alignment.TEMPLATES`.
    """

    size: int
    colour: Literal["rgb", "grey"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    alignment: str

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("the size must be positive, and mean and std hold a number for each channel")
        if not all(isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std must be positive")
        if self.colour not in ("rgb", "grey"):
            raise ValueError(f"unknown colour {self.colour!r}; known: rgb, grey")
        if self.alignment not in TEMPLATES:
            raise ValueError(f"unknown alignment {self.alignment!r}; known: {', '.join(TEMPLATES)}")


def to_batch(crops: Sequence[Crop], spec: InputSpec) -> Tensor:
    """Crops, each uint8 [size, size, 3] RGB -> float32 [B, 3, size, size], normalised. ValueError on another shape."""
    shape = (spec.size, spec.size, 3)
    for crop in crops:
        if crop.shape != shape or crop.dtype != np.uint8:
            raise ValueError(f"crop is {crop.dtype} {crop.shape}, the model expects uint8 {shape}")
    if spec.colour == "grey":
        planes = torch.from_numpy(np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]))
        pixels = planes[:, None].expand(-1, 3, -1, -1)
    else:
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    mean, std = torch.tensor(spec.mean).view(3, 1, 1), torch.tensor(spec.std).view(3, 1, 1)
    batch = (pixels.float() / 255 - mean) / std
    # What follows is convolutions, which run faster with channels innermost.
    return batch.contiguous(memory_format=torch.channels_last)
