"""Points that ride on a surface: found once on a resting face, followed through its movements."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.rendered.mesh import Mesh, Points

_STRIP_CM = 0.5
_TOGETHER = 64


@dataclass(frozen=True)
class Anchors:
    """Places on the triangles of a mesh."""

    corners: NDArray[np.int32]
    """int32 [N, 3], the vertices of the triangle that each point lies in."""
    weights: NDArray[np.float64]
    """float64 [N, 3], its barycentric coordinates."""

    def positions(self, mesh: Mesh, height: NDArray[np.floating] | float = 0.0) -> Points:
        """Return where the points are on a mesh of the same topology, `height` [N] above it: float32 [N, 3], in cm."""
        lift = np.broadcast_to(np.asarray(height, dtype=np.float64), len(self.corners))
        return (self._carried(mesh.vertices) + self.normals(mesh) * lift[:, None]).astype(np.float32)

    def normals(self, mesh: Mesh) -> NDArray[np.float64]:
        """Return the normals at the points, float64 [N, 3] of length 1."""
        normals = self._carried(mesh.normals)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))

    def _carried(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray((values[self.corners] * self.weights[:, :, None]).sum(axis=1), dtype=np.float64)


def seen_from_front(mesh: Mesh, xy: NDArray[np.floating]) -> Anchors:
    """Return the foremost point of a mesh at each place of the frontal plane, `xy` [N, 2] in cm.

    A place beside the mesh gets the nearest triangle's nearest corner.
    """
    facing = mesh.triangles[mesh.normals[mesh.triangles][:, :, 2].mean(axis=1) > 0]
    flat = mesh.vertices[facing][:, :, :2].astype(np.float64)
    low, high = xy.min(axis=0) - 1, xy.max(axis=0) + 1
    near = ((flat.max(axis=1) > low) & (flat.min(axis=1) < high)).all(axis=1)
    facing, flat = facing[near], flat[near]
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    depth = mesh.vertices[facing][:, :, 2].mean(axis=1)
    corners = np.zeros((len(xy), 3), dtype=np.int32)
    weights = np.zeros((len(xy), 3))
    # Points that are neighbours share the few triangles around them.
    order = np.lexsort((xy[:, 1], np.floor(xy[:, 0] / _STRIP_CM)))
    for rows in np.array_split(order, max(len(order) // _TOGETHER, 1)):
        points = np.asarray(xy[rows], dtype=np.float64)
        around = ((highest > points.min(axis=0) - 0.5) & (lowest < points.max(axis=0) + 0.5)).all(axis=1)
        nearby = np.flatnonzero(around) if around.any() else np.arange(len(flat))
        inside = _barycentric(flat[nearby], points)
        least = inside.min(axis=2)
        hit = least > -1e-6
        foremost = np.where(hit, depth[nearby], -np.inf).argmax(axis=1)
        best = np.where(hit.any(axis=1), foremost, least.argmax(axis=1))
        corners[rows] = facing[nearby[best]]
        share = np.clip(inside[np.arange(len(rows)), best], 0, None)
        weights[rows] = share / share.sum(axis=1, keepdims=True)
    return Anchors(corners, weights)


def _barycentric(triangles: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coordinates [P, T, 3] of points [P, 2] in each of the triangles [T, 3, 2]."""
    a = triangles[:, 0]
    ab = triangles[:, 1] - a
    ac = triangles[:, 2] - a
    ap = points[:, None] - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    v = (ap[..., 0] * ac[:, 1] - ap[..., 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[..., 1] - ab[:, 1] * ap[..., 0]) / area
    return np.stack([1 - v - w, v, w], axis=-1)
