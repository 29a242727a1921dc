"""Hair of the head: strands that grow from the scalp along a combed flow, fall, and stay outside the head."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.rendered.mesh import Mesh
from training.rendered.strands import ribbons

Cut: TypeAlias = Literal["bald", "cropped", "short", "parted", "long", "tied", "curly"]

_LINE_Z = np.array([-20.0, -13.0, -11.0, -9.5, -7.5, -6.0, -4.0, -1.5, 2.0])
_LINE_Y = np.array([-5.5, -5.0, -3.5, 1.0, 1.0, 1.0, 3.6, 5.6, 6.4])
"""The hairline seen from the side: its height in cm above the eyes by the distance before them."""


@dataclass(frozen=True)
class HairStyle:
    """The hair of a person."""

    cut: Cut
    recession_cm: float
    """How far the hairline lies above its usual place."""
    part_cm: float
    """Where the parting is, to the person's left of the middle."""


@dataclass(frozen=True)
class _Comb:
    """A cut in numbers: strands, steps of each, length in cm, lift off the scalp, weight of gravity, and curl."""

    strands: int
    steps: int
    length_cm: float
    lift: float
    gravity: float
    curl: float


_COMBS = {
    "short": _Comb(4500, 4, 2.6, 0.5, 0.05, 0.15),
    "parted": _Comb(4500, 7, 6.5, 0.28, 0.30, 0.06),
    "long": _Comb(4500, 12, 27.0, 0.16, 0.55, 0.05),
    "tied": _Comb(4500, 7, 11.0, 0.05, 0.05, 0.02),
    "curly": _Comb(4000, 8, 6.0, 0.75, 0.10, 0.85),
}


def scalp(points: NDArray[np.floating], recession_cm: float) -> NDArray[np.float64]:
    """Return how far points [N, 3] lie inside the hairline, float64 [N] in [0, 1], with a soft edge of a centimetre."""
    line = np.interp(points[:, 2], _LINE_Z, _LINE_Y) + recession_cm * np.clip((points[:, 2] + 7) / 4, 0, 1)
    return np.asarray(np.clip((points[:, 1] - line) / 1.0, 0, 1))


def hair(skin: Mesh, style: HairStyle, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the strands of a head at rest and the normals they are lit by, both float64 [S, P, 3], S 0 for no hair."""
    if style.cut in ("bald", "cropped"):
        return np.zeros((0, 2, 3)), np.zeros((0, 2, 3))
    comb = _COMBS[style.cut]
    root, normal = _roots(skin, style.recession_cm, comb.strands, rng)
    centre, radii = _ellipsoid(skin.vertices)
    step = comb.length_cm / (comb.steps - 1) * rng.uniform(0.75, 1.1, len(root))[:, None]
    curl = rng.normal(0, comb.curl, (len(root), comb.steps, 3))
    layer = 1 + rng.uniform(0.01, 0.09, len(root))[:, None] * (2.0 if style.cut == "curly" else 1.0)
    points = [root - 0.05 * normal]
    direction = normal
    for index in range(comb.steps - 1):
        flow = _flow(points[-1], style, centre)
        direction = direction * 0.4 + flow * (1 - comb.lift) + normal * comb.lift * 0.9 + curl[:, index]
        direction[:, 1] -= comb.gravity * (index + 1) / 2
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
        points.append(_outside(points[-1] + direction * step, centre, radii, layer))
    strands = np.stack(points, axis=1)
    outward = (strands - centre) / radii**2
    outward /= np.linalg.norm(outward, axis=2, keepdims=True)
    return strands, outward + rng.normal(0, 0.22, (len(root), 1, 3))


def hair_ribbons(
    strands: NDArray[np.float64], normals: NDArray[np.float64], toward: NDArray[np.float64], rng: np.random.Generator
) -> Mesh:
    """Return strands as ribbons that are turned to a camera in the direction `toward` [3]."""
    return ribbons(strands, normals, rng.uniform(0.12, 0.24, len(strands)), toward)


def _roots(
    skin: Mesh, recession_cm: float, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points on the scalp by area, and their normals, float64 [count, 3] each."""
    corners = skin.vertices[skin.triangles].astype(np.float64)
    middle = corners.mean(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chance = area * scalp(middle, recession_cm)
    chosen = rng.choice(len(corners), count, p=chance / chance.sum())
    weights = rng.dirichlet([1, 1, 1], count)[:, :, None]
    normal = (skin.normals[skin.triangles[chosen]] * weights).sum(axis=1)
    return (corners[chosen] * weights).sum(axis=1), normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _flow(points: NDArray[np.float64], style: HairStyle, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the direction in which hair is combed at points, float64 [N, 3]."""
    side = np.sign(points[:, 0] - style.part_cm + 1e-6)
    back = np.broadcast_to([0.0, 0.1, -1.0], points.shape)
    if style.cut == "tied":
        knot = centre + np.array([0, 1.0, -11.0])
        flow = knot - points
    elif style.cut == "short":
        flow = back + np.stack([0.3 * side, np.zeros(len(points)), np.zeros(len(points))], axis=1)
    elif style.cut == "curly":
        flow = points - centre
    else:
        down = np.clip((centre[1] + 10 - points[:, 1]) / 8, 0.1, 1.2)
        flow = np.stack([side * 0.9, -down, np.full(len(points), -0.45)], axis=1)
    return np.asarray(flow / np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-6))


def _ellipsoid(vertices: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre [3] and radii [3] of the ellipsoid around the upper head."""
    upper = vertices[vertices[:, 1] > 1].astype(np.float64)
    low, high = upper.min(axis=0), upper.max(axis=0)
    width = np.percentile(np.abs(upper[upper[:, 1] > 4][:, 0]), 99)
    centre = np.array([0.0, high[1] - 10.5, (low[2] + high[2] - 1.5) / 2])
    return centre, np.array([width, 10.5, (high[2] - low[2] - 1.5) / 2])


def _outside(
    points: NDArray[np.float64], centre: NDArray[np.float64], radii: NDArray[np.float64], layer: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Push points out of the head, and of the cylinder of the neck below it, to a layer above the scalp."""
    relative = (points - centre) / radii
    relative[:, 1] = np.where(relative[:, 1] < 0, relative[:, 1] * 0.35, relative[:, 1])
    inside = np.linalg.norm(relative, axis=1, keepdims=True)
    push = np.maximum(layer / np.maximum(inside, 1e-6), 1)
    moved = centre + (points - centre) * push
    moved[:, 1] = np.where(points[:, 1] < centre[1], points[:, 1], moved[:, 1])
    return np.asarray(moved)
