"""Simulated tracks: still faces set in motion, for what a real video would need and no data here has.

A track drifts in pose, blur and exposure, trembles as detected landmarks do, has noise in every frame and now and then
an occlusion. A changing track dissolves from one face into another, and its targets with it. It is a stand-in: a
dissolve is no muscle movement, and the two faces are rarely one person's.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.affect import AffectTarget
from model_core.faces.geometry import Crop
from training.data.batches import targets
from training.data.prepared import PreparedFaces

FRAME_RATE = 10.0
"""Frames a second that a simulated track stands for."""


@dataclass(frozen=True)
class Motion:
    """How much moves, at most.

    Rotation in degrees; scale, shift and tremble (a frame's, standard deviation) in shares of the side; blur and noise
    as standard deviations in pixels and grey levels; contrast and brightness as shares; occluded: a probability.
    """

    rotation_deg: float = 8.0
    scale: float = 0.06
    shift: float = 0.03
    tremble: float = 0.008
    blur_px: float = 1.2
    noise: float = 6.0
    contrast: float = 0.2
    brightness: float = 0.08
    occluded: float = 0.3


TREMBLING = Motion(rotation_deg=0, scale=0, shift=0, blur_px=0, contrast=0, brightness=0, occluded=0)
"""A still face in front of a still camera: all that changes is noise, and where the landmarks are found."""


def ramp(frames: int, start: int, length: int) -> NDArray[np.float64]:
    """How far each frame is from the first face to the second, float64 [frames] in [0, 1].

    0 before `start`, then up to 1 over `length` frames; a length of 1 is a jump at `start`.
    """
    return np.clip((np.arange(frames) - start + 1) / length, 0, 1)


def simulate(
    first: Crop, second: Crop, mix: NDArray[np.float64], motion: Motion, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """uint8 [T, S, S, 3]: `first` dissolving into `second`, uint8 [S, S, 3] both, as `mix`, [T], says."""
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
    """The targets of a dissolve from record `first` to record `second`, for its T frames; masks need both."""
    ends = targets(faces, np.array([first, second]))
    values = {}
    for field in fields(AffectTarget):
        a, b = getattr(ends, field.name)
        if field.name.endswith("mask"):
            values[field.name] = (a * b).expand(len(mix), *a.shape)
        else:
            share = a.new_tensor(mix).reshape(-1, *(1,) * a.ndim)
            values[field.name] = a * (1 - share) + b * share
    return AffectTarget(**values)


def _drift(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64 [frames] in [-1, 1]: slow waves of one to six seconds."""
    time_s = np.arange(frames) / FRAME_RATE
    waves = [np.sin(2 * np.pi * (time_s / rng.uniform(1, 6) + rng.random())) for _ in range(3)]
    return np.asarray(np.mean(waves, axis=0))


def _occlusion(frames: int, side: int, rng: np.random.Generator) -> tuple[int, int, slice, slice]:
    """First and last frame, rows and columns of a hand, a cup or a microphone."""
    start = int(rng.integers(0, frames))
    height, width = (int(length) for length in rng.uniform(0.2, 0.45, 2) * side)
    y, x = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
    return start, start + int(rng.integers(3, 11)), slice(y, y + height), slice(x, x + width)
