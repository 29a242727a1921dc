"""Hair as ribbons of triangles: brows that ride on the skin, and hair on the scalp.

Curves as renderers know them are slower, and a path tracer has failed on some of them; at the size of a portrait a
ribbon that faces the camera cannot be told from a hair.
"""

import numpy as np
from numpy.typing import NDArray

from training.rendered.anchors import Anchors, seen_from_front
from training.rendered.mesh import Mesh

_UP = np.array([0.0, 0.0, 1.0])


def ribbons(
    points: NDArray[np.floating],
    normals: NDArray[np.floating],
    width: NDArray[np.floating],
    toward: NDArray[np.floating],
) -> Mesh:
    """Return strands as ribbons that are turned to the camera.

    points: [S, P, 3], the strands from root to tip in cm. normals: [S, P, 3], as they are lit. width: [S] at the root;
    a tip has a fifth of it. toward: [3], the direction to the camera.
    """
    strands, steps, _ = points.shape
    along = np.gradient(points, axis=1)
    across = np.cross(along, toward)
    across /= np.maximum(np.linalg.norm(across, axis=2, keepdims=True), 1e-6)
    half = 0.5 * width[:, None, None] * np.linspace(1, 0.2, steps)[None, :, None]
    sides = np.stack([points - across * half, points + across * half], axis=2)
    index = np.arange(strands * steps * 2).reshape(strands, steps, 2)
    a, b = index[:, :-1, 0], index[:, :-1, 1]
    c, d = index[:, 1:, 1], index[:, 1:, 0]
    triangles = np.stack([np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)], axis=2).reshape(-1, 3)
    lit = np.repeat(normals[:, :, None, :], 2, axis=2).reshape(-1, 3)
    lit = lit / np.maximum(np.linalg.norm(lit, axis=1, keepdims=True), 1e-9)
    uv = np.zeros((strands * steps * 2, 2), dtype=np.float32)
    return Mesh(sides.reshape(-1, 3).astype(np.float32), lit.astype(np.float32), triangles.astype(np.int32), uv)


class RidingStrands:
    """Short hairs every point of which is anchored on the skin, so that they move with it."""

    def __init__(self, rest: Mesh, xy: NDArray[np.floating], height: NDArray[np.floating], width: NDArray[np.floating]):
        """Anchor strands on a resting face. xy: [S, P, 2] in cm, height: [P] above the skin, width: [S] at the root."""
        self._shape = xy.shape[:2]
        self._anchors: Anchors = seen_from_front(rest, xy.reshape(-1, 2))
        self._height = np.tile(height, len(xy))
        self._width = width

    def mesh(self, skin: Mesh, toward: NDArray[np.floating]) -> Mesh:
        """Return the hairs on a moved face as ribbons that are turned to a camera in the direction `toward`."""
        points = self._anchors.positions(skin, self._height).reshape(*self._shape, 3)
        normals = self._anchors.normals(skin).reshape(*self._shape, 3)
        return ribbons(points.astype(np.float64), normals, self._width, toward)
