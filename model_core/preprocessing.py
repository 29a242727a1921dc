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


BLENDED = 0.045
"""Half-width of the range in which both orientations are averaged, in standard deviations of an image's luminance.

A tenth of FER+ faces lies within it. Landmarks that are a pixel beside move a face by a quarter of it.
"""

LEAST_SPREAD = 0.05
"""Added to an image's standard deviation, so that noise orients no uniform image. In the network's units."""


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

    oriented: bool = False
    """True: of a crop and its mirror image the one is read whose left half is brighter, so both get the same answer.

    Where the halves are about equally bright both are read and averaged, by weights that change smoothly.
    """

    def __post_init__(self) -> None:
        if self.with_mirror_image and self.oriented:
            raise ValueError("a face is either read with its mirror image, or oriented")
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


def own_weights(images: Images, spec: InputSpec) -> NDArray[np.float32]:
    """Return the weight in [0, 1] of the answer to each image in that to its face, float32 [B].

    The answer to the mirror image has the rest. The weights of an image and of its mirror image add up to 1, so both
    get the same answer. Source of the smooth weights: weighted frames (Dym et al., "Equivariant Frames and the
    Impossibility of Continuous Canonicalization", ICML 2024).
    """
    if spec.with_mirror_image:
        return np.full(len(images), 0.5, np.float32)
    if not spec.oriented:
        return np.ones(len(images), np.float32)
    place = (0.5 + _brighter_left(images) / (2 * BLENDED)).clip(0, 1)
    return np.asarray(place * place * (3 - 2 * place), np.float32)


def _brighter_left(images: Images) -> NDArray[np.float32]:
    """Return how much brighter each image is on the left, in its standard deviations, float32 [B]."""
    left_to_right = np.linspace(1, -1, images.shape[3], dtype=np.float32)
    columns = images.mean(axis=(1, 2))
    spread = images.std(axis=(1, 2, 3)) + LEAST_SPREAD
    return np.asarray(columns @ left_to_right / np.abs(left_to_right).sum() / spread, np.float32)


def oriented(images: Images) -> Images:
    """Return the images, those mirrored that are brighter on the right, with channels innermost."""
    rows = images.transpose(0, 2, 3, 1)
    right = _brighter_left(images) < 0
    return np.where(right[:, None, None, None], rows[:, :, ::-1], rows).transpose(0, 3, 1, 2)


def readings(images: Images, weights: NDArray[np.float32]) -> Images:
    """Return the images that weigh anything, then the mirror images that do, with channels innermost."""
    rows = images.transpose(0, 2, 3, 1)
    own, mirrored = _chosen(rows, weights > 0), _chosen(rows, weights < 1)
    shown = np.concatenate([own, mirrored[:, :, ::-1]]) if len(mirrored) else own
    return shown.transpose(0, 3, 1, 2)


def weighted_answers(outputs: NDArray[np.float64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the answers to B faces, [B, D], for the outputs of their `readings` and their weights [B]."""
    own, mirrored = weights > 0, weights < 1
    answers = np.zeros((len(weights), outputs.shape[1]))
    answers[own] += weights[own, None] * outputs[: own.sum()]
    answers[mirrored] += (1 - weights[mirrored, None]) * outputs[own.sum() :]
    return answers


def _chosen(rows: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the chosen rows; all of them are not copied, for a copy takes as long as a hundredth of the network."""
    return rows if chosen.all() else rows[chosen]


def _grey(crop: Crop) -> Crop:
    """Return a crop's luminance in all three channels."""
    return np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8, copy=False)
