"""Polygon meshes: Catmull-Clark subdivision as a matrix, normals, and the triangle meshes that a renderer takes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Points = NDArray[np.float32]
"""float32 [V, 3], in centimetres: x to the person's left, y up, z out of the face; 0 between the eyes."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with a normal and a texture coordinate for each vertex, of one material."""

    vertices: Points
    """float32 [V, 3], in centimetres."""
    normals: Points
    """float32 [V, 3], of length 1."""
    triangles: NDArray[np.int32]
    """int32 [T, 3], counter-clockwise seen from outside."""
    uv: NDArray[np.float32]
    """float32 [V, 2]; v counts upwards."""

    def moved(self, rotation: NDArray[np.float64], offset: NDArray[np.float64]) -> "Mesh":
        """Return the mesh rotated about 0 by a matrix [3, 3] and shifted by `offset` [3]."""
        turned = self.vertices @ rotation.T + offset
        return replace(self, vertices=turned.astype(np.float32), normals=(self.normals @ rotation.T).astype(np.float32))


def joined(meshes: list[Mesh]) -> Mesh:
    """Return several meshes as one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]).astype(np.int32),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


@dataclass(frozen=True)
class Topology:
    """The polygons of a mesh, apart from where its vertices are; -1 as a fourth corner makes a triangle."""

    quads: NDArray[np.int32]
    """int32 [F, 4], indices of vertices."""
    uv: NDArray[np.float32]
    """float32 [U, 2], texture coordinates."""
    quads_uv: NDArray[np.int32]
    """int32 [F, 4], indices of texture coordinates."""

    def part(self, chosen: NDArray[np.bool_]) -> "Topology":
        """Return the polygons where `chosen`, bool [F], is true; indices stay."""
        return replace(self, quads=self.quads[chosen], quads_uv=self.quads_uv[chosen])


class Surface:
    """A topology prepared for rendering: vertices of its mesh -> a smooth Mesh, one matrix product away.

    `levels` times Catmull and Clark's subdivision (1978) is applied, with the usual rules for borders, so vertices of
    the result are linear in the given ones. Texture coordinates are interpolated linearly.
    """

    def __init__(self, topology: Topology, vertices: int, levels: int) -> None:
        matrix = sparse.identity(vertices, format="csr", dtype=np.float64)
        for _ in range(levels):
            step, topology = _subdivided(topology, matrix.shape[0])
            matrix = step @ matrix
        self._smooth_triangles = _triangulated(topology.quads)
        corners_uv = _triangulated(topology.quads_uv)
        pairs = np.stack([self._smooth_triangles.ravel(), corners_uv.ravel()], axis=1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        self._sources = unique[:, 0]
        self._matrix = matrix.tocsr()
        self.triangles = inverse.reshape(-1, 3).astype(np.int32)
        """int32 [T, 3]: the triangles of every mesh of this surface."""
        self.uv = topology.uv[unique[:, 1]].astype(np.float32)
        """float32 [V, 2]: the texture coordinates of its vertices."""

    def carried(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return values of the given vertices, [vertices, D], at the vertices of the surface: float32 [V, D]."""
        return np.asarray((self._matrix @ values)[self._sources], dtype=np.float32)

    def mesh(self, vertices: Points) -> Mesh:
        """Return the surface through `vertices`, float32 [vertices, 3]. Normals are smooth across seams of texture."""
        smooth = self._matrix @ vertices.astype(np.float64)
        normals = vertex_normals(smooth, self._smooth_triangles)
        return Mesh(
            smooth[self._sources].astype(np.float32),
            normals[self._sources].astype(np.float32),
            self.triangles,
            self.uv,
        )


def vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the mean of the normals around each vertex, weighted by area: float64 [V, 3] of length 1."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normals = np.zeros((len(vertices), 3))
    across = np.cross(b - a, c - a)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], across[:, axis], len(vertices))
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _triangulated(quads: NDArray[np.int32]) -> NDArray[np.int32]:
    second = quads[:, 3] >= 0
    order = np.concatenate([np.arange(len(quads)), np.flatnonzero(second)])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[second][:, [0, 2, 3]]])
    return np.asarray(triangles[np.argsort(order, kind="stable")])


def _subdivided(topology: Topology, vertices: int) -> tuple[sparse.csr_matrix, Topology]:
    step, quads = _catmull_clark(topology.quads, vertices, smooth=True)
    step_uv, quads_uv = _catmull_clark(topology.quads_uv, len(topology.uv), smooth=False)
    return step, Topology(quads, np.asarray(step_uv @ topology.uv), quads_uv)


def _catmull_clark(
    quads: NDArray[np.int32], vertices: int, *, smooth: bool
) -> tuple[sparse.csr_matrix, NDArray[np.int32]]:
    """Return one step as a matrix [vertices + edges + faces, vertices], and the new quads; linear unless smooth."""
    count = (quads >= 0).sum(axis=1)
    faces, corners = np.nonzero(quads >= 0)
    start = quads[faces, corners]
    following = (corners + 1) % count[faces]
    end = quads[faces, following]
    pairs = np.sort(np.stack([start, end], axis=1), axis=1)
    edges, edge_of_corner = np.unique(pairs, axis=0, return_inverse=True)
    edge_of_corner = edge_of_corner.ravel()

    ones = np.ones(len(faces))
    face_points = sparse.csr_matrix((ones / count[faces], (faces, start)), (len(quads), vertices))
    rows = np.repeat(np.arange(len(edges)), 2)
    midpoints = sparse.csr_matrix((np.full(2 * len(edges), 0.5), (rows, edges.ravel())), (len(edges), vertices))
    sides = np.bincount(edge_of_corner, minlength=len(edges))
    edge_points = midpoints
    vertex_points = sparse.identity(vertices, format="csr")
    if smooth:
        around = sparse.csr_matrix((ones / 2, (edge_of_corner, faces)), (len(edges), len(quads))) @ face_points
        inner = sides == 2
        edge_points = _chosen(inner) @ (0.5 * midpoints + 0.5 * around) + _chosen(~inner) @ midpoints
        vertex_points = _vertex_points(edges, sides, midpoints, (faces, start), face_points)

    matrix = sparse.vstack([vertex_points, edge_points, face_points]).tocsr()
    before = np.full(quads.shape, -1)
    edge_at = np.full(quads.shape, -1)
    edge_at[faces, corners] = edge_of_corner
    before[faces, following] = edge_of_corner
    new = np.stack(
        [start, vertices + edge_at[faces, corners], vertices + len(edges) + faces, vertices + before[faces, corners]],
        axis=1,
    )
    return matrix, new.astype(np.int32)


def _vertex_points(
    edges: NDArray[np.int32],
    sides: NDArray[np.intp],
    midpoints: sparse.csr_matrix,
    corners: tuple[NDArray[np.intp], NDArray[np.int32]],
    face_points: sparse.csr_matrix,
) -> sparse.csr_matrix:
    """Return the rule for vertices: (F + 2 R + (n - 3) P) / n inside, (6 P + neighbours) / 8 on a border."""
    vertices = midpoints.shape[1]
    faces, start = corners
    valence = np.bincount(edges.ravel(), minlength=vertices).astype(float)
    border_edges = edges[sides == 1]
    on_border = np.zeros(vertices, dtype=bool)
    on_border[border_edges.ravel()] = True
    per_vertex = 1 / np.maximum(valence, 1)
    to_faces = sparse.csr_matrix((np.ones(len(faces)), (start, faces)), (vertices, face_points.shape[0]))
    to_faces = sparse.diags(1 / np.maximum(np.bincount(start, minlength=vertices), 1)) @ to_faces @ face_points
    ends = edges.ravel()
    to_edges = sparse.csr_matrix(
        (per_vertex[ends], (ends, np.repeat(np.arange(len(edges)), 2))), (vertices, len(edges))
    )
    inner = sparse.diags(per_vertex) @ (to_faces + 2 * (to_edges @ midpoints))
    inner = inner + sparse.diags(1 - 3 * per_vertex)
    neighbours = sparse.csr_matrix(
        (np.ones(2 * len(border_edges)), (border_edges.ravel(), border_edges[:, ::-1].ravel())), (vertices, vertices)
    )
    border = 0.75 * sparse.identity(vertices) + 0.125 * neighbours
    loose = valence == 0
    return (
        _chosen(~on_border & ~loose) @ inner + _chosen(on_border) @ border + _chosen(loose) @ sparse.identity(vertices)
    ).tocsr()


def _chosen(mask: NDArray[np.bool_]) -> sparse.dia_matrix:
    return sparse.diags(mask.astype(float))
