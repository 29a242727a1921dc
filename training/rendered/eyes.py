"""Eyeballs: spheres with a bulging cornea, coloured by vertex, that are turned to a gaze."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.rendered.mesh import Mesh, vertex_normals

_RINGS = 48
_SECTORS = 48
_IRIS_CM = 0.59
_CORNEA = 0.045
"""Height of the cornea's bulge, as a share of the radius."""


@dataclass(frozen=True)
class EyeColours:
    """Colours in linear RGB, each in [0, 1]."""

    iris: tuple[float, float, float]
    sclera: tuple[float, float, float]
    pupil: float
    """Radius of the pupil as a share of the iris'."""


def eyeball(
    centre: NDArray[np.floating], radius: float, gaze: tuple[float, float], colours: EyeColours, seed: int
) -> tuple[Mesh, NDArray[np.float32]]:
    """Return an eyeball and the colours of its vertices, float32 [V, 3].

    centre: [3] in cm. gaze: degrees to the person's left and up.
    """
    polar = np.linspace(0, np.pi, _RINGS + 1) ** 1.5 / np.pi**0.5
    around = np.linspace(0, 2 * np.pi, _SECTORS, endpoint=False)
    theta, phi = (grid.ravel() for grid in np.meshgrid(polar, around, indexing="ij"))
    iris = np.arcsin(_IRIS_CM / radius)
    bulge = 1 + _CORNEA * np.clip(1 - (theta / (1.15 * iris)) ** 2, 0, 1)
    unit = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    ring, sector = np.meshgrid(np.arange(_RINGS), np.arange(_SECTORS), indexing="ij")
    beside = (sector + 1) % _SECTORS
    a, b = ring * _SECTORS + sector, ring * _SECTORS + beside
    c, d = b + _SECTORS, a + _SECTORS
    triangles = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    vertices = unit * (radius * bulge)[:, None]
    turned = vertices @ _rotation(*gaze).T
    normals = vertex_normals(turned, triangles)
    normals[:_SECTORS] = (_rotation(*gaze) @ [0, 0, 1])[None]
    mesh = Mesh(
        (turned + centre).astype(np.float32),
        normals.astype(np.float32),
        triangles.astype(np.int32),
        np.zeros((len(turned), 2), dtype=np.float32),
    )
    return mesh, _colours(theta / iris, phi, colours, seed)


def _rotation(left: float, up: float) -> NDArray[np.float64]:
    yaw, pitch = np.radians(left), np.radians(-up)
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return np.asarray(about_y @ about_x)


def _colours(
    distance: NDArray[np.float64], phi: NDArray[np.float64], colours: EyeColours, seed: int
) -> NDArray[np.float32]:
    """Return colours by the distance from the pupil's centre in radii of the iris."""
    rng = np.random.default_rng(seed)
    fibres = sum(rng.normal(0, 0.12) * np.cos(k * phi + rng.uniform(0, 6.3)) for k in range(5, 17))
    iris = np.array(colours.iris) * (1 + fibres + 0.4 * np.clip(0.6 - distance, 0, 1))[:, None]
    iris *= np.where(distance > 0.86, 0.45, 1)[:, None]
    result = np.where((distance < 1)[:, None], iris, np.array(colours.sclera))
    pinker = np.clip((distance - 1.4) / 1.2, 0, 1)[:, None]
    result = result * (1 - pinker * [0.05, 0.28, 0.28])
    return np.where((distance < colours.pupil)[:, None], 0.01, np.clip(result, 0, 1)).astype(np.float32)
