"""What a portrait is assembled from: meshes with a material and the colours of their vertices."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.rendered.mesh import Mesh

Material: TypeAlias = Literal["skin", "cloth", "mouth", "eye", "tooth", "hair", "lash"]

MATERIALS: tuple[Material, ...] = ("skin", "cloth", "mouth", "eye", "tooth", "hair", "lash")

MOUTH = (0.22, 0.045, 0.04)
GUM = (0.42, 0.12, 0.11)
TONGUE = (0.45, 0.14, 0.13)
LASH = (0.02, 0.015, 0.012)
"""Colours in linear RGB, the same for everyone."""


@dataclass(frozen=True)
class Piece:
    """A mesh of one material."""

    material: Material
    mesh: Mesh
    colours: NDArray[np.float32]
    """float32 [V, 3], reflectances in linear RGB, each in [0, 1]."""


def plain(material: Material, mesh: Mesh, colour: ArrayLike) -> Piece:
    """Return a piece of one colour, [3]."""
    colours = np.broadcast_to(np.asarray(colour, dtype=np.float32), (len(mesh.vertices), 3))
    return Piece(material, mesh, np.ascontiguousarray(colours))


def linear(srgb: ArrayLike) -> NDArray[np.float32]:
    """Return sRGB values in [0, 1] as linear reflectances."""
    values = np.asarray(srgb, dtype=np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def srgb(values: ArrayLike) -> NDArray[np.float32]:
    """Return linear values in [0, 1] as sRGB."""
    light = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
