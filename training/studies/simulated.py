"""Simulated tracks: still faces set in motion, a stand-in for annotated videos, which are not freely available.

A track drifts in pose, blur and exposure, trembles as detected landmarks do, has noise in every frame and sometimes an
occlusion. A changing track dissolves from one face into another, and so do its targets. A dissolve is not a muscle
movement, and the two faces are rarely those of one person.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget
from model_core.faces.geometry import Crop
from training.data.batches import targets
from training.data.prepared import PreparedFaces

FRAME_RATE = 10.0
"""Frames per second of a simulated track."""


@dataclass(frozen=True)
class Motion:
    """The extent of a track's motion and disturbances."""

    rotation_deg: float = 8.0
    """Largest rotation in degrees, to either side."""
    scale: float = 0.06
    """Largest enlargement or reduction, as a share."""
    shift: float = 0.03
    """Largest shift along each axis, as a share of the side."""
    tremble: float = 0.008
    """Standard deviation of each frame's own shift, as a share of the side."""
    blur_px: float = 1.2
    """Largest sigma of the Gaussian blur, in pixels."""
    noise: float = 6.0
    """Mean standard deviation of the noise, in grey levels."""
    contrast: float = 0.2
    """Largest gain or loss of contrast, as a share."""
    brightness: float = 0.08
    """Largest offset of pixel values, as a share of 255."""
    occluded: float = 0.3
    """Probability of an occlusion in a track."""


TREMBLING = Motion(rotation_deg=0, scale=0, shift=0, blur_px=0, contrast=0, brightness=0, occluded=0)
"""A still face in front of a still camera: only noise and the detected landmarks change."""


def ramp(frames: int, start: int, length: int) -> NDArray[np.float64]:
    """Return each frame's share of the second face, float64 [frames] in [0, 1].

    It is 0 before `start` and rises to 1 over `length` frames; a length of 1 is a jump at `start`.
    """
    return np.clip((np.arange(frames) - start + 1) / length, 0, 1)


def simulate(
    first: Crop, second: Crop, mix: NDArray[np.float64], motion: Motion, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a track, uint8 [T, S, S, 3], dissolving from `first` to `second`, both uint8 [S, S, 3], by `mix` [T]."""
    frames, side = len(mix), first.shape[0]
    turn, zoom, across, down, blur, contrast, brightness = (_drift(frames, rng) for _ in range(7))
    tremble = rng.normal(0, motion.tremble * side, (frames, 2))
    occlusion = _occlusion(frames, side, rng) if rng.random() < motion.occluded else None
    noise = motion.noise * rng.uniform(0.5, 1.5)
    crops = np.empty((frames, side, side, 3), np.uint8)
    for t in range(frames):
        image = cv2.addWeighted(first, 1 - mix[t], second, mix[t], 0)
        matrix = cv2.getRotationMatrix2D(
            ((side - 1) / 2, (side - 1) / 2), motion.rotation_deg * turn[t], 1 + motion.scale * zoom[t]
        )
        matrix[:, 2] += motion.shift * side * np.array([across[t], down[t]]) + tremble[t]
        image = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        if (sigma := motion.blur_px * blur[t]) > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        if occlusion is not None and occlusion[0] <= t < occlusion[1]:
            image[occlusion[2], occlusion[3]] = 96
        light = (image.astype(np.float32) - 128) * (1 + motion.contrast * contrast[t]) + 128
        light += 255 * motion.brightness * brightness[t] + rng.normal(0, noise, (side, side, 1))
        crops[t] = light.clip(0, 255)
    return crops


def blended(faces: PreparedFaces, first: int, second: int, mix: NDArray[np.float64]) -> AffectTarget:
    """Return the targets of a dissolve from record `first` to record `second`, in each of its T frames.

    A target counts where it counts in both records.
    """
    ends = targets(faces, np.array([first, second]))
    share = torch.from_numpy(mix).float()[:, None]

    def mixed(values: Tensor) -> Tensor:
        return values[0] * (1 - share) + values[1] * share

    def both(mask: Tensor) -> Tensor:
        return (mask[0] * mask[1]).expand(len(mix), *mask.shape[1:])

    return AffectTarget(
        valence_arousal=mixed(ends.valence_arousal),
        valence_arousal_mask=both(ends.valence_arousal_mask),
        expression=mixed(ends.expression),
        expression_mask=both(ends.expression_mask),
        action_units=mixed(ends.action_units),
        action_units_mask=both(ends.action_units_mask),
    )


def _drift(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a mean of three slow waves with periods of one to six seconds, float64 [frames] in [-1, 1]."""
    time_s = np.arange(frames) / FRAME_RATE
    waves = [np.sin(2 * np.pi * (time_s / rng.uniform(1, 6) + rng.random())) for _ in range(3)]
    return np.asarray(np.mean(waves, axis=0))


def _occlusion(frames: int, side: int, rng: np.random.Generator) -> tuple[int, int, slice, slice]:
    """Return the first frame, the frame after the last, the rows and the columns of an occlusion by a hand or a cup."""
    start = int(rng.integers(0, frames))
    height, width = (int(length) for length in rng.uniform(0.2, 0.45, 2) * side)
    y, x = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
    return start, start + int(rng.integers(3, 11)), slice(y, y + height), slice(x, x + width)
