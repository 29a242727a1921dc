"""Inputs and targets for the landmark network, drawn from labelled pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.faces.alignment import similarity_transform
from model_core.faces.refinement import INPUT_PX, LANDMARK_UNIT_PX, REGION, box_outputs
from training.refinement.labels import MIRRORED, PICTURE_PX, LabelledFace


@dataclass(frozen=True)
class Start:
    """Distance of a look's region from the face, as it is after a detection or after an earlier look."""

    share: float
    """Share of the training samples."""
    turn_deg: float
    """Standard deviation of the rotation in degrees; infinite: any rotation."""
    shift: float
    """Standard deviation of the shift, as a share of the input's side."""
    scale: float
    """Standard deviation of the logarithm of the scale."""
    log_scale: float = 0.0
    """Mean of the logarithm of the scale: detectors draw smaller boxes around turned faces."""


STARTS = (
    Start(share=0.15, turn_deg=np.inf, shift=0.06, scale=0.18, log_scale=0.1),
    Start(share=0.3, turn_deg=30.0, shift=0.06, scale=0.15, log_scale=0.05),
    Start(share=0.3, turn_deg=8.0, shift=0.03, scale=0.07),
    Start(share=0.25, turn_deg=2.0, shift=0.01, scale=0.02),
)
"""From a box in any turn, which the network learns to doubt; from a box in about the right quarter turn; after a first
look; after a second look."""


class Sampler:
    """Draws pairs of samples of one face: regions and loss of detail differ, the light is the same."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._shares = [start.share for start in STARTS]

    def pairs(self, faces: Sequence[LabelledFace], start: Start | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs, float32 [2, N, S, S] in [0, 1], and targets, float32 [2, N, 14], two of each face.

        `start`: of all samples; None: a mixture of STARTS.
        """
        samples = [self._pair(face, start) for face in faces]
        inputs = np.array([[each for each, _ in pair] for pair in samples], dtype=np.float32) / 255
        targets = np.array([[each for _, each in pair] for pair in samples], dtype=np.float32)
        return torch.from_numpy(inputs).transpose(0, 1), torch.from_numpy(targets).transpose(0, 1)

    def _pair(self, face: LabelledFace, start: Start | None) -> list[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        if self._rng.random() < 0.5:
            face = mirrored(face)
        starts = [start] * 2 if start else [STARTS[self._rng.choice(len(STARTS), p=self._shares)] for _ in range(2)]
        return [self._sample(face, each) for each in starts]

    def _sample(self, face: LabelledFace, start: Start) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        matrix = self._region(face.landmarks, start)
        seen = cv2.warpAffine(
            face.picture, matrix, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        offsets = face.landmarks @ matrix[:, :2].T + matrix[:, 2] - REGION
        target = np.concatenate([offsets.ravel() / LANDMARK_UNIT_PX, box_outputs(face.landmarks, face.box)])
        return self._degraded(np.asarray(seen, dtype=np.uint8)), target

    def _region(self, points: NDArray[np.float64], start: Start) -> NDArray[np.float64]:
        """Return a transform, float64 [2, 3], to an input in which the face is about where a look expects it."""
        any_turn = np.isinf(start.turn_deg)
        degrees = self._rng.uniform(-180, 180) if any_turn else self._rng.normal(scale=start.turn_deg)
        angle = np.deg2rad(degrees)
        scale = np.exp(self._rng.normal(start.log_scale, start.scale))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        middle = np.full(2, (INPUT_PX - 1) / 2)
        shift = self._rng.normal(scale=start.shift * INPUT_PX, size=2)
        matrix: NDArray[np.float64] = turn @ similarity_transform(points, REGION)
        matrix[:, 2] += middle - turn @ middle + shift
        return matrix

    def _degraded(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._rng.random() < 0.25:
            side = int(INPUT_PX * self._rng.uniform(0.35, 0.9))
            small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            picture = np.asarray(cv2.resize(small, picture.shape[::-1]), dtype=np.uint8)
        if self._rng.random() < 0.25:
            height, width = self._rng.integers(6, 26, 2)
            y, x = self._rng.integers(0, INPUT_PX - 8, 2)
            picture = picture.copy()
            picture[y : y + height, x : x + width] = self._rng.integers(0, 256)
        return picture


def mirrored(face: LabelledFace) -> LabelledFace:
    """Return the mirror image of a face."""
    points = (face.landmarks * [-1, 1] + [PICTURE_PX - 1, 0])[MIRRORED]
    box = replace(face.box, x=PICTURE_PX - face.box.x - face.box.width)
    return LabelledFace(np.ascontiguousarray(face.picture[:, ::-1]), points, box)


def relit(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Return inputs, float32 [2, N, S, S] in [0, 1], in other light, with other contrast and with noise.

    Both samples of a face get the same light and contrast.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(inputs.shape[1], 1, 1, generator=generator) * (high - low) + low

    lit = inputs ** torch.exp(uniform(-0.5, 0.5)) * uniform(0.6, 1.3) + uniform(-0.15, 0.15)
    slope = torch.linspace(-1, 1, inputs.shape[-1])
    across = 1 + uniform(-0.3, 0.3) * slope
    down = 1 + uniform(-0.3, 0.3) * slope[:, None]
    noise = torch.randn(inputs.shape, generator=generator) * uniform(0, 0.05)
    return (lit * across * down + noise).clamp(0, 1)
