"""The shape of a face: its landmarks without position, size and rotation, as a few principal components.

Shapes are aligned to their mean by generalised Procrustes analysis (Gower, 1975). A point is a complex number x + iy,
so a rotation is a multiplication.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 48
"""Number of components kept; on FER+ they hold 99.9 % of the variance."""

_ROUNDS = 3
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class ShapeModel:
    """A mean shape of L landmarks and the K principal components of the deviations from it."""

    mean: NDArray[np.complex128]
    """complex128 [L]."""
    partners: NDArray[np.int64]
    """int64 [L]: for each landmark, the one nearest to its mirror image."""
    components: NDArray[np.float64]
    """float64 [2 L, K], columns of length 1."""
    deviations: NDArray[np.float64]
    """float64 [K]: standard deviation of the training shapes along each component, largest first."""

    def describe(self, landmarks: NDArray[np.float32], *, mirrored: bool = False) -> NDArray[np.float32]:
        """Return the components of landmarks [N, L, 2], float32 [N, K], in units of their standard deviations."""
        shapes = _aligned(_standardised(landmarks), self.mean)
        if mirrored:
            shapes = _mirrored(shapes, self.partners)
        return (_coordinates(shapes - self.mean) @ self.components / self.deviations).astype(np.float32)


def fit_shapes(landmarks: NDArray[np.float32]) -> ShapeModel:
    """Fit a model to landmarks [N, L, 2] and their mirror images. Raises ValueError for fewer than two faces."""
    if len(landmarks) < 2:
        raise ValueError(f"shapes need landmarks of two faces at least, not of {len(landmarks)}")
    shapes = _standardised(landmarks)
    mean = shapes.mean(axis=0)  # upright, since faces lean to either side alike
    for _ in range(_ROUNDS):
        mean = _aligned(shapes, mean / np.linalg.norm(mean)).mean(axis=0)
    partners = np.abs(-mean.conj()[:, None] - mean[None, :]).argmin(axis=0)
    both = np.concatenate([shapes, _mirrored(shapes, partners)])
    both = _aligned(both, mean + _mirrored(mean[None], partners)[0])  # this mean is symmetric, hence upright
    mean = both.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(_coordinates(both - mean), rowvar=False))
    largest = np.argsort(variances)[::-1][:COMPONENTS]
    # A few faces vary along a few components only; the others are bounded below, since shapes are divided by them.
    deviations = np.sqrt(variances[largest].clip(min=_LEAST_SHARE * variances.max()))
    return ShapeModel(mean, partners, vectors[:, largest], deviations)


def _standardised(landmarks: NDArray[np.float32]) -> NDArray[np.complex128]:
    """Return landmarks [N, L, 2] as complex [N, L], each face centred at 0 and of length 1."""
    points = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    points -= points.mean(axis=1, keepdims=True)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True).clip(min=1e-12))


def _aligned(shapes: NDArray[np.complex128], mean: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Rotate each shape so that its distance to the mean is smallest."""
    turn = shapes.conj() @ mean
    return np.asarray(shapes * (turn / np.abs(turn).clip(min=1e-12))[:, None])


def _mirrored(shapes: NDArray[np.complex128], partners: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Mirror shapes; each point takes the place of its partner."""
    return np.asarray(-shapes[:, partners].conj())


def _coordinates(shapes: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.concatenate([shapes.real, shapes.imag], axis=1)
