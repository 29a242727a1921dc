"""How far lips are apart, measured on the mesh."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HALF_WIDTH_CM = 0.3
_REACH_CM = 1.5
_DEPTH_CM = 0.5


@dataclass(frozen=True)
class Lips:
    """The vertices of both lips in the middle of a mesh, from the mouth's opening outward."""

    upper: NDArray[np.int64]
    lower: NDArray[np.int64]

    def gap(self, vertices: NDArray[np.floating]) -> float:
        """Return the height of the opening in cm on a head that is upright; negative where the lips overlap."""
        return float(vertices[self.upper, 1].min() - vertices[self.lower, 1].max())


def find_lips(
    vertices: NDArray[np.floating],
    jaw_open: NDArray[np.floating],
    skin: NDArray[np.integer],
    middle: NDArray[np.integer],
) -> Lips:
    """Find the lips of a mesh whose mouth is closed.

    vertices: [V, 3] in cm. jaw_open: [V, 3], how they move when the jaw drops, which the lower lip follows and the
    upper one does not. skin: indices of the face's vertices. middle: indices of some where the lips touch.
    """
    centre = vertices[middle].mean(axis=0)
    x, y, z = (vertices[skin] - centre).T
    near = (np.abs(x) < _HALF_WIDTH_CM) & (np.abs(y) < _REACH_CM) & (z > -_DEPTH_CM)
    drop = -jaw_open[skin, 1]
    follows = drop > 0.5 * drop[near].max()
    return Lips(np.asarray(skin[near & ~follows], dtype=np.int64), np.asarray(skin[near & follows], dtype=np.int64))
