"""Colours of skin at the vertices of a head: from photographs that fit MakeHuman's mesh, or drawn procedurally."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from training.rendered.errors import RenderError
from training.rendered.hair import scalp
from training.rendered.people import Person, Tone
from training.rendered.pieces import linear

_MELANIN = np.array([0.75, 1.1, 1.45])
"""Relative absorption of melanin in red, green and blue."""

_LEVELS: Mapping[Tone, tuple[float, float]] = {"light": (-0.05, 0.2), "medium": (0.3, 0.75), "dark": (1.0, 1.7)}
"""Range of the optical density of melanin that is added to a light skin, for each tone."""


class SkinFolder:
    """MakeHuman's skins (CC0): files named `<age>_<tone>skinned_<sex>_diffuse<n>.jpg`, on the texture of hm08."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*skinned_*diffuse*.jpg"))
        if not self._paths:
            raise RenderError(
                f"{folder} has no skins: files such as young_lightskinned_female_diffuse2.jpg are expected"
            )

    def colours(self, person: Person, uv: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the colours of a person's skin at texture coordinates [V, 2]: float64 [V, 3] in linear RGB.

        A skin of the same sex and nearest age is chosen. There are few dark and no medium ones, so most of these are
        light ones with melanin added.
        """
        path, dark = self._choose(person, rng)
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise RenderError(f"skin is unreadable: {path}")
        height, width = picture.shape[:2]
        places = np.stack([(1 - uv[:, 1]) * height - 0.5, uv[:, 0] * width - 0.5])
        smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)[:, :, ::-1].astype(np.float32)
        sampled = np.stack([map_coordinates(smooth[:, :, c], places, order=1) for c in range(3)], axis=1)
        low, high = (-0.5, 0.3) if dark else _LEVELS[person.tone]
        return melanised(linear(sampled / 255.0), rng.uniform(low, high))

    def _choose(self, person: Person, rng: np.random.Generator) -> tuple[Path, bool]:
        sexed = [path for path in self._paths if f"_{person.sex}_" in path.name] or self._paths
        dark = [path for path in sexed if "_darkskinned_" in path.name]
        light = [path for path in sexed if path not in dark] or self._paths
        use_dark = person.tone == "dark" and bool(dark) and rng.random() < 0.7
        skins = dark if use_dark else light
        age = {"young": "young", "middle": "middleage", "old": "old"}[person.age_group]
        aged = [path for path in skins if path.name.startswith(age)] or skins
        return aged[rng.integers(len(aged))], use_dark


def melanised(colours: NDArray[np.floating], density: float) -> NDArray[np.float64]:
    """Return linear colours [V, 3] as they are behind so much more melanin (less, where it is negative)."""
    return np.asarray(np.clip(colours * np.exp(-density * _MELANIN), 0, 1), dtype=np.float64)


def painted(
    person: Person, colours: NDArray[np.floating], points: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return colours [V, 3] of a face at rest with what depends on the person: scalp, stubble, and an uneven tint.

    points: [V, 3] in cm.
    """
    hair = np.array(person.hair_colour)
    mottled = 1 + 0.02 * _noise(points, 1.5, rng)[:, None] + 0.02 * _noise(points, 0.4, rng)[:, None]
    result = np.asarray(colours) * mottled * (1 + rng.normal(0, 0.03, 3))
    if person.hair.cut != "bald":
        cover = 0.8 * scalp(points, person.hair.recession_cm)[:, None]
        result = result * (1 - cover) + 0.6 * hair * cover
    if person.stubble:
        cover = 0.55 * person.stubble * beard(points)[:, None] * (0.8 + 0.2 * _noise(points, 0.15, rng)[:, None])
        result = result * (1 - cover) + hair * cover
    return np.clip(result, 0.002, 0.95).astype(np.float32)


def beard(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much of a beard grows at points [N, 3] of a resting face, float64 [N] in [0, 1]."""
    x = np.abs(points[:, 0])
    y, z = points[:, 1], points[:, 2]
    cheek = -4.9 + 3.0 * np.clip((x - 4.2) / 2.5, 0, 1.2) - 2.0 * np.clip((x - 1) / 3.2, 0, 1) * (x < 4.2)
    grows = np.clip((cheek - y) / 0.6, 0, 1) * np.clip((y + 11.5) / 1.5, 0, 1) * np.clip((z + 8.5) / 1.0, 0, 1)
    lips = (x / 2.6) ** 2 + ((y + 6.9) / 1.0) ** 2
    return np.asarray(grows * np.clip((lips - 0.8) / 0.4, 0, 1))


def _noise(points: NDArray[np.floating], scale_cm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth noise at points [N, 3], about standard normal: float64 [N]."""
    waves = rng.normal(0, 1 / scale_cm, (24, 3))
    phases = rng.uniform(0, 2 * np.pi, 24)
    return np.asarray(np.cos(points @ waves.T + phases).sum(axis=1) / np.sqrt(12))
