"""The shape of a face: landmarks freed of where, how large and how turned the face is, in a few numbers.

A point is a complex number x + iy, so that turning is a multiplication. Shapes are aligned to their mean (generalised
Procrustes analysis, Gower 1975) and described by principal components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 48
"""Of shapes: on FER+ they hold 99.9 % of the variance."""

_ROUNDS = 3
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class ShapeModel:
    """mean: complex [L]. partners: int64 [L], the landmark nearest to where each one's mirror image lies. components:
    float64 [2 L, K], of length 1. deviations: float64 [K], of the training shapes along them, largest first."""

    mean: NDArray[np.complex128]
    partners: NDArray[np.int64]
    components: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def describe(self, landmarks: NDArray[np.float32], *, mirrored: bool = False) -> NDArray[np.float32]:
        """Landmarks [N, L, 2] -> float32 [N, K]: along each component, in its deviations."""
        shapes = _aligned(_standardised(landmarks), self.mean)
        if mirrored:
            shapes = _mirrored(shapes, self.partners)
        return (_coordinates(shapes - self.mean) @ self.components / self.deviations).astype(np.float32)


def fit_shapes(landmarks: NDArray[np.float32]) -> ShapeModel:
    """Of landmarks [N, L, 2] and of their mirror images; ValueError where fewer than two faces have any."""
    if len(landmarks) < 2:
        raise ValueError(f"shapes need landmarks of two faces at least, not of {len(landmarks)}")
    shapes = _standardised(landmarks)
    mean = shapes.mean(axis=0)  # upright, since faces lean to either side alike
    for _ in range(_ROUNDS):
        mean = _aligned(shapes, mean / np.linalg.norm(mean)).mean(axis=0)
    partners = np.abs(-mean.conj()[:, None] - mean[None, :]).argmin(axis=0)
    both = np.concatenate([shapes, _mirrored(shapes, partners)])
    both = _aligned(both, mean + _mirrored(mean[None], partners)[0])  # whose own lean is none
    mean = both.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(_coordinates(both - mean), rowvar=False))
    largest = np.argsort(variances)[::-1][:COMPONENTS]
    # Few faces vary along few components only; what they lack must not become large when divided by next to nothing.
    deviations = np.sqrt(variances[largest].clip(min=_LEAST_SHARE * variances.max()))
    return ShapeModel(mean, partners, vectors[:, largest], deviations)


def _standardised(landmarks: NDArray[np.float32]) -> NDArray[np.complex128]:
    """[N, L, 2] -> complex [N, L] around 0, of length 1."""
    points = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    points -= points.mean(axis=1, keepdims=True)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True).clip(min=1e-12))


def _aligned(shapes: NDArray[np.complex128], mean: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Each turned so that its distance to the mean is smallest."""
    turn = shapes.conj() @ mean
    return np.asarray(shapes * (turn / np.abs(turn).clip(min=1e-12))[:, None])


def _mirrored(shapes: NDArray[np.complex128], partners: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Left and right exchanged; each point is called as what lies there now."""
    return np.asarray(-shapes[:, partners].conj())


def _coordinates(shapes: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.concatenate([shapes.real, shapes.imag], axis=1)
