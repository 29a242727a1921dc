import numpy as np
import pytest

from training.rendered.mesh import Surface, Topology, joined, vertex_normals

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32)
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]], dtype=np.int32)
SQUARE = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], dtype=np.float32)
ONE_QUAD = Topology(np.array([[0, 1, 2, 3]], np.int32), SQUARE[:, :2] / 4, np.array([[0, 1, 2, 3]], np.int32))


def cube(levels: int) -> Surface:
    return Surface(Topology(SIDES, CUBE[:, :2], SIDES), len(CUBE), levels)


def test_a_step_moves_a_corner_of_a_cube_to_five_ninths() -> None:
    # (F + 2 R + 0 P) / 3: the face points around a corner have mean 1/3, the edge midpoints 2/3.
    vertices = cube(1).mesh(CUBE).vertices
    assert len(vertices) == 8 + 12 + 6
    corners = vertices[np.abs(np.abs(vertices) - 5 / 9).max(axis=1) < 1e-6]
    assert len(corners) == 8


def test_a_cube_becomes_round() -> None:
    mesh = cube(3).mesh(CUBE)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert radius.max() / radius.min() < 1.03
    outward = (mesh.vertices / radius[:, None] * mesh.normals).sum(axis=1)
    assert outward.min() > 0.98


def test_borders_follow_their_own_rule() -> None:
    # A corner of a border: 3/4 of itself and 1/8 of either neighbour.
    vertices = Surface(ONE_QUAD, 4, 1).mesh(SQUARE).vertices
    assert {tuple(point) for point in vertices.tolist()} == {
        (0.5, 0.5, 0), (3.5, 0.5, 0), (3.5, 3.5, 0), (0.5, 3.5, 0),
        (2, 0, 0), (4, 2, 0), (2, 4, 0), (0, 2, 0), (2, 2, 0),
    }  # fmt: skip


def test_texture_is_interpolated_linearly() -> None:
    uv = Surface(ONE_QUAD, 4, 1).uv
    assert {tuple(point) for point in uv.tolist()} == {(x, y) for x in (0, 0.5, 1) for y in (0, 0.5, 1)}


def test_triangles_may_stand_among_quads() -> None:
    quads = np.array([[0, 1, 2, -1]], np.int32)
    surface = Surface(Topology(quads, SQUARE[:, :2], quads), 4, 0)
    assert surface.triangles.shape == (1, 3)
    assert surface.mesh(SQUARE).normals.tolist() == [[0, 0, 1]] * 3


def test_a_seam_of_the_texture_splits_vertices_and_keeps_the_normal() -> None:
    quads = np.array([[0, 1, 2, 3], [3, 2, 5, 4]], np.int32)
    bent = np.concatenate([SQUARE, [[0, 4, -4], [4, 4, -4]]]).astype(np.float32)
    apart = np.arange(8, dtype=np.int32).reshape(2, 4)
    mesh = Surface(Topology(quads, np.random.default_rng(0).random((8, 2)), apart), 6, 0).mesh(bent)
    assert len(mesh.vertices) == 8
    for x in (0, 4):
        first, second = mesh.normals[(mesh.vertices == [x, 4, 0]).all(axis=1)]
        assert first.tolist() == second.tolist()
        assert min(first[1:]) > 0.4


def test_values_ride_on_the_vertices() -> None:
    surface = Surface(ONE_QUAD, 4, 1)
    assert surface.carried(SQUARE) == pytest.approx(surface.mesh(SQUARE).vertices)


def test_normals_of_a_larger_triangle_weigh_more() -> None:
    vertices = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1.0]])
    normal = vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 3]]))[0]
    assert normal == pytest.approx(np.array([2, 0, 4]) / 20**0.5)


def test_meshes_are_moved_and_joined() -> None:
    mesh = Surface(ONE_QUAD, 4, 0).mesh(SQUARE)
    quarter_turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    both = joined([mesh, mesh.moved(quarter_turn, np.array([1.0, 0, 0]))])
    assert both.triangles.max() == 7
    assert both.vertices[4:].min(axis=0).tolist() == [1, 0, -4]
    assert both.normals[4] == pytest.approx([1, 0, 0])
