"""The parts of a head, on flat and round stand-ins for skin."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.rendered.anchors import seen_from_front
from training.rendered.brows import BrowStyle, brows
from training.rendered.errors import RenderError
from training.rendered.eyes import EyeColours, eyeball
from training.rendered.hair import HairStyle, hair, hair_ribbons, scalp
from training.rendered.lips import find_lips
from training.rendered.mesh import Mesh, Surface, Topology, joined
from training.rendered.people import person
from training.rendered.pieces import linear, srgb
from training.rendered.skins import SkinFolder, beard, melanised, painted
from training.rendered.strands import ribbons
from training.rendered.teeth import tooth_colours


def wall(half: float = 12.0, steps: int = 24) -> Mesh:
    """A square in the frontal plane that faces the camera."""
    line = np.linspace(-half, half, steps + 1)
    x, y = (grid.ravel() for grid in np.meshgrid(line, line))
    vertices = np.stack([x, y, 0 * x], axis=1).astype(np.float32)
    row, column = (grid.ravel() for grid in np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij"))
    first = row * (steps + 1) + column
    quads = np.stack([first, first + 1, first + steps + 2, first + steps + 1], axis=1).astype(np.int32)
    return Surface(Topology(quads, vertices[:, :2], quads), len(vertices), 0).mesh(vertices)


def ball(radius: float = 10.0) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32)
    sides = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]], np.int32)
    mesh = Surface(Topology(sides, corners[:, :2], sides), 8, 4).mesh(corners)
    unit = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    return dataclasses.replace(mesh, vertices=(unit * radius + [0, 2, -9]).astype(np.float32), normals=unit)


def test_points_ride_on_a_moving_surface() -> None:
    rest = wall()
    anchors = seen_from_front(rest, np.array([[0.3, 0.4], [-5.25, 7.75]]))
    assert anchors.positions(rest, 0.5) == pytest.approx(np.array([[0.3, 0.4, 0.5], [-5.25, 7.75, 0.5]]), abs=1e-5)
    lifted = dataclasses.replace(rest, vertices=rest.vertices + np.float32([0, 1, 2]))
    assert anchors.positions(lifted)[0] == pytest.approx([0.3, 1.4, 2.0], abs=1e-5)


def test_the_foremost_surface_is_seen() -> None:
    near = wall().moved(np.eye(3), np.array([0, 0, 3.0]))
    both = joined([wall(), near])
    assert seen_from_front(both, np.array([[1.1, 1.2]])).positions(both)[0, 2] == pytest.approx(3)


def test_a_place_beside_the_surface_gets_its_edge() -> None:
    position = seen_from_front(wall(2.0, 2), np.array([[2.2, 0.0]])).positions(wall(2.0, 2))[0]
    assert position[0] == pytest.approx(2, abs=0.01)


def test_ribbons_are_as_wide_as_asked_and_taper() -> None:
    strand = np.array([[[0, 0, 0], [0, 1, 0], [0, 2, 0.0]]])
    mesh = ribbons(strand, np.full((1, 3, 3), [0, 0, 1.0]), np.array([0.5]), np.array([0, 0, 1.0]))
    width = np.ptp(mesh.vertices[:, 0].reshape(3, 2), axis=1)
    assert width == pytest.approx([0.5, 0.3, 0.1])
    assert len(mesh.triangles) == 4


def test_brows_lie_above_the_eyes_and_move_with_the_skin() -> None:
    rest, style = wall(), BrowStyle(height_cm=1.8, thickness_cm=0.8, length=1.0, arch=0.0, hairs=200)
    strands = brows(rest, 6.2, style, np.random.default_rng(0))
    points = strands.mesh(rest, np.array([0, 0, 1.0])).vertices
    assert points[:, 1].mean() == pytest.approx(1.8, abs=0.2)
    assert 1.0 < np.abs(points[:, 0]).min() < np.abs(points[:, 0]).max() < 6.5
    raised = strands.mesh(rest.moved(np.eye(3), np.array([0, 1.0, 0])), np.array([0, 0, 1.0])).vertices
    assert raised - points == pytest.approx(np.tile([0, 1.0, 0], (len(points), 1)), abs=1e-4)


def test_hair_grows_inside_the_hairline_and_outside_the_head() -> None:
    head = ball()
    style = HairStyle("short", 0.0, 0.0)
    strands, normals = hair(head, style, np.random.default_rng(0))
    assert strands.shape == normals.shape
    assert (scalp(strands[:, 0], 0.0) > 0).mean() > 0.97
    assert np.linalg.norm(strands[:, -1] - [0, 2, -9], axis=1).mean() > 10
    assert (
        len(hair_ribbons(strands, normals, np.array([0, 0, 1.0]), np.random.default_rng(0)).vertices)
        == strands[..., 0].size * 2
    )
    assert len(hair(head, HairStyle("bald", 0.0, 0.0), np.random.default_rng(0))[0]) == 0


def test_the_hairline_lies_over_the_forehead_and_recedes() -> None:
    points = np.array([[0, 9.0, 0], [0, 3.0, 1], [0, 7.5, 1]])
    assert scalp(points, 0.0).tolist() == pytest.approx([1, 0, 1])
    assert scalp(points, 3.0)[2] == 0


@pytest.mark.parametrize(("gaze", "front"), [((0, 0), [0, 0, 1]), ((90, 0), [1, 0, 0]), ((0, 90), [0, 1, 0])])
def test_eyes_look_where_they_should(gaze: tuple[float, float], front: list[float]) -> None:
    colours = EyeColours((0.1, 0.2, 0.3), (0.6, 0.6, 0.6), 0.4)
    mesh, shades = eyeball(np.array([3.0, 0, 0]), 1.2, gaze, colours, 0)
    pupil = mesh.vertices[shades.max(axis=1) < 0.02] - [3, 0, 0]
    direction = pupil.mean(axis=0) / np.linalg.norm(pupil.mean(axis=0))
    assert direction == pytest.approx(np.array(front), abs=0.02)
    assert np.linalg.norm(mesh.vertices - [3, 0, 0], axis=1).max() == pytest.approx(1.2 * 1.045, abs=1e-3)
    assert ((mesh.vertices - [3, 0, 0]) * mesh.normals).sum(axis=1).min() > 0


def test_lips_are_told_apart_by_the_jaw() -> None:
    vertices = np.array([[0, 0.4, 0], [0, 0.01, 0], [0, -0.01, 0], [0, -0.4, 0], [3, 0, 0]])
    drop = np.array([[0, 0, 0], [0, 0, 0], [0, -1.0, 0], [0, -1.0, 0], [0, -1.0, 0]])
    lips = find_lips(vertices, drop, np.arange(5), np.array([1, 2]))
    assert (lips.upper.tolist(), lips.lower.tolist()) == ([0, 1], [2, 3])
    assert lips.gap(vertices + 0.5 * drop) == pytest.approx(0.52)


def test_teeth_have_gaps_and_gums() -> None:
    x = np.array([0.0, 0.4, 0.4])
    y = np.array([0.1, 0.1, 2.0])
    points = np.stack([x, y, np.full(3, 5.0)], axis=1)
    points = np.concatenate([points, [[0.4, 0, 5], [0.4, 2, 5]]])
    colours = tooth_colours(points, "upper", np.array([0.6, 0.55, 0.45]))
    gap, tooth, gum = colours[:3]
    assert gap.max() < 0.6 * tooth.max()
    assert tooth == pytest.approx([0.6, 0.55, 0.45], abs=1e-3)
    assert gum[0] > 2 * gum[1]


def test_srgb_and_back() -> None:
    values = np.array([0.0, 0.02, 0.5, 1.0])
    assert linear(0.5) == pytest.approx(0.2140, abs=1e-4)
    assert srgb(linear(values)) == pytest.approx(values, abs=1e-6)


def test_melanin_darkens_blue_most() -> None:
    darker = melanised(np.array([[0.5, 0.4, 0.3]]), 1.0)[0] / [0.5, 0.4, 0.3]
    assert darker == pytest.approx(np.exp([-0.75, -1.1, -1.45]))
    assert np.all(np.diff(darker) < 0)


def test_beards_grow_on_the_jaw_and_not_on_lips_or_brow() -> None:
    assert beard(np.array([[0, -9.5, 0], [3, -8, 0]])).min() > 0.9
    assert beard(np.array([[0, -6.9, 0], [0, 4, 0], [3, -2, 0]])).max() == 0


def test_skins_are_chosen_by_sex_and_tone(tmp_path: Path) -> None:
    for name, grey in (
        ("young_lightskinned_female", 200),
        ("young_lightskinned_male", 150),
        ("old_darkskinned_male", 60),
    ):
        cv2.imwrite(str(tmp_path / f"{name}_diffuse.jpg"), np.full((16, 16, 3), grey, np.uint8))
    uv = np.array([[0.5, 0.5], [0.2, 0.9]])
    woman, man = person("makehuman", 0, 0), person("makehuman", 1, 0)
    folder = SkinFolder(tmp_path)
    pale = folder.colours(dataclasses.replace(woman, tone="light"), uv, np.random.default_rng(0))
    dark = folder.colours(dataclasses.replace(woman, tone="dark"), uv, np.random.default_rng(0))
    assert pale.shape == (2, 3)
    assert dark.max() < 0.5 * pale.max()
    assert folder.colours(dataclasses.replace(man, tone="light"), uv, np.random.default_rng(0)).max() < pale.max()


def test_a_folder_without_skins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="has no skins"):
        SkinFolder(tmp_path)


def test_the_scalp_takes_the_colour_of_the_hair() -> None:
    who = dataclasses.replace(
        person("ict", 0, 0), hair=HairStyle("short", 0.0, 0.0), hair_colour=(0.0, 0.0, 0.0), stubble=0.0
    )
    points = np.array([[0, 10.0, -5], [0, 3.0, 1]])
    crown, forehead = painted(who, np.full((2, 3), 0.5), points, np.random.default_rng(0))
    assert crown.max() < 0.2
    assert forehead.min() > 0.4
