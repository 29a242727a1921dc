"""Preprocessing of crops to the network's input. Training and serving both call `to_batch`, so they cannot differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATES
from model_core.faces.geometry import Crop

Images: TypeAlias = NDArray[np.float32]
"""Normalised images, float32 [B, 3, S, S]."""


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

    with_mirror_image: bool = False
    """True: answers are the means of those to a crop and to its mirror image, so both get the same."""

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("the size must be positive, and mean and std must hold a number for each channel")
        if not all(isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std must be positive")
        if self.colour not in ("rgb", "grey"):
            raise ValueError(f"unknown colour {self.colour!r}; known: rgb, grey")
        if self.alignment not in TEMPLATES:
            raise ValueError(f"unknown alignment {self.alignment!r}; known: {', '.join(TEMPLATES)}")


def to_batch(crops: Sequence[Crop], spec: InputSpec) -> Images:
    """Return crops, each uint8 [size, size, 3] RGB, as normalised images, float32 [B, 3, size, size].

    Memory has channels innermost: convolutions run faster so. Raises ValueError for a crop of another shape or type.
    """
    shape = (spec.size, spec.size, 3)
    for crop in crops:
        if crop.shape != shape or crop.dtype != np.uint8:
            raise ValueError(f"the crop is {crop.dtype} {crop.shape}, but the model expects uint8 {shape}")
    if spec.colour == "grey":
        crops = [_grey(crop) for crop in crops]
    # Whole rows of pixels, for NumPy is slow at steps of three numbers.
    rows = np.stack(crops).reshape(len(crops) * spec.size, spec.size * 3).astype(np.float32)
    rows /= 255
    rows -= np.tile(np.array(spec.mean, np.float32), spec.size)
    rows /= np.tile(np.array(spec.std, np.float32), spec.size)
    return rows.reshape(len(crops), *shape).transpose(0, 3, 1, 2)


def with_mirror_images(images: Images) -> Images:
    """Return B images followed by their mirror images, float32 [2 B, 3, S, S], with channels innermost."""
    rows = images.transpose(0, 2, 3, 1)
    return np.concatenate([rows, rows[:, :, ::-1]]).transpose(0, 3, 1, 2)


def _grey(crop: Crop) -> Crop:
    """Return a crop's luminance in all three channels."""
    return np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8, copy=False)
