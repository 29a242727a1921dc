"""A person with ICT-FaceKit's head (Li et al., 2020; MIT): a linear model of identity and of ARKit's shapes.

The skins fit MakeHuman's mesh, so they are carried over: points that look alike on both faces give a thin-plate spline
of the frontal plane. What is not seen from the front gets the mean colour of the skin.
"""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.rendered.correspondence import texture_coordinates
from training.rendered.errors import RenderError
from training.rendered.features import Features
from training.rendered.lips import find_lips
from training.rendered.makehuman import half_of_face
from training.rendered.mesh import Mesh, Points, Surface, Topology
from training.rendered.movements import Shapes, Side
from training.rendered.people import Person
from training.rendered.pieces import GUM, LASH, Piece, plain
from training.rendered.skins import SkinFolder, painted

_PARTS = {
    "skin": slice(0, 14034),
    "gum": slice(14034, 17006),
    "teeth": slice(17006, 21496),
    "eyes": slice(21496, 24692),
    "lashes left": slice(25304, 25394),
    "lashes right": slice(25844, 25934),
}
"""Polygons of the model's parts. Lacrimal fluid and the eyes' blending meshes are left out, and so are all but one of
three layers of the upper lashes."""

_FIELDS = ("neutral", "identity", "expression", "expression_names", "quads", "uv", "quads_uv", "vertex_indices")

_INNER_LIPS = (62, 66)
"""Multi-PIE's landmarks in the middle of the upper and lower lip, from 0."""


@dataclass(frozen=True)
class _Surfaces:
    parts: dict[str, Surface]
    eyes: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Indices of the vertices of the left and the right eyeball."""


class IctModel:
    """The model's arrays, read once. Raises RenderError where the file is missing or has other fields."""

    def __init__(self, file: Path, skins: SkinFolder, makehuman: Mesh) -> None:
        """makehuman: the skin of MakeHuman's mean head, whose texture the skins fit."""
        if not file.is_file():
            raise RenderError(f"ICT-FaceKit's model is missing: {file}")
        with np.load(file, allow_pickle=False) as arrays:
            if missing := [name for name in _FIELDS if name not in arrays]:
                raise RenderError(f"{file} lacks {', '.join(missing)}")
            self.neutral = arrays["neutral"].astype(np.float64)
            self.identity = arrays["identity"].astype(np.float32)
            names = [str(name) for name in arrays["expression_names"]]
            self.expression = dict(zip(names, arrays["expression"].astype(np.float32), strict=True))
            self.topology = Topology(arrays["quads"], arrays["uv"], arrays["quads_uv"])
            landmarks = json.loads(str(arrays["vertex_indices"]))["idx_to_landmark_verts"]
        skin = np.unique(self.topology.quads[_PARTS["skin"]])
        middle = np.array([landmarks[number] for number in _INNER_LIPS])
        self.lips = find_lips(self.neutral, self.expression["jawOpen"], skin[skin >= 0], middle)
        self.skins = skins
        self._makehuman = makehuman

    @cached_property
    def skin_uv(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The coordinates of the skins' texture at the vertices of the skin, and how surely each is right."""
        centres = [_sphere(self.neutral[eye])[0] for eye in self.surfaces.eyes]
        rest = (self.neutral - sum(centres) / len(centres)).astype(np.float32)
        return texture_coordinates(self.surfaces.parts["skin"].mesh(rest), self._makehuman)

    @cached_property
    def surfaces(self) -> _Surfaces:
        """The parts of the model as smooth surfaces."""
        count, quads = len(self.neutral), len(self.topology.quads)
        chosen = {name: np.isin(np.arange(quads), np.arange(quads)[part]) for name, part in _PARTS.items()}
        eyes = np.unique(self.topology.part(chosen["eyes"]).quads)
        eyes = eyes[eyes >= 0].astype(np.int64)
        left = self.neutral[eyes, 0] > 0
        parts = {name: Surface(self.topology.part(mask), count, int(name == "skin")) for name, mask in chosen.items()}
        return _Surfaces(parts, (eyes[left], eyes[~left]))

    def offsets(self, name: str, side: Side) -> NDArray[np.floating]:
        """Return the displacements of a shape on one side, [26719, 3] in cm. Raises KeyError for an unknown shape."""
        sided = self.expression.get(f"{name}_{side[0].upper()}")
        if sided is not None:
            return np.asarray(sided)
        return np.asarray(self.expression[name] * half_of_face(self.neutral[:, 0], side, 2.5)[:, None])

    def head(self, person: Person) -> "IctHead":
        """Return a person's head."""
        return IctHead(self, person)


class IctHead:
    """One person's head, which can be moved."""

    def __init__(self, model: IctModel, person: Person) -> None:
        self.person = person
        self._model = model
        weights = np.random.default_rng([person.seed, 0]).normal(0, 0.8, len(model.identity)).clip(-2, 2)
        rest = model.neutral + np.tensordot(weights, model.identity, axes=1)
        spheres = [_sphere(rest[eye]) for eye in model.surfaces.eyes]
        origin = sum(centre for centre, _ in spheres) / len(spheres)
        self._rest = rest - origin
        skin = model.surfaces.parts["skin"].mesh(self.moved({}))
        pattern = np.random.default_rng([person.seed, 1])
        self._skin_colours = painted(person, self._colours(skin, pattern), skin.vertices, pattern)
        self._features = Features(person, skin, [(centre - origin, radius) for centre, radius in spheres])

    def _colours(self, skin: Mesh, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the skin's colours: of the person's skin where it is seen from the front, else of cheeks and lips."""
        uv, sure = self._model.skin_uv
        colours = self._model.skins.colours(self.person, uv, rng)
        x, y = np.abs(skin.vertices[:, 0]), skin.vertices[:, 1]
        cheeks = np.median(colours[(sure == 1) & (y < -2) & (y > -5) & (x > 2.5)], axis=0)
        lips = np.median(colours[(sure == 1) & (np.abs(y + 7) < 0.4) & (x < 1)], axis=0)
        mouth = np.clip(1.5 - np.hypot(x / 3.2, (y + 7) / 2), 0, 1)[:, None]
        hidden = cheeks * (1 - mouth) + lips * mouth
        return np.asarray(colours * sure[:, None] + hidden * (1 - sure[:, None]))

    def lip_gap(self, shapes: Shapes) -> float:
        """Return how far the lips are apart in the middle, in cm, beyond what they are at rest."""
        return self._model.lips.gap(self.moved(shapes)) - self._model.lips.gap(self._rest)

    def moved(self, shapes: Shapes) -> Points:
        """Return the vertices of the moved face, float32 [26719, 3], in cm."""
        vertices = self._rest.copy()
        for (name, side), weight in shapes.items():
            vertices += weight * self._model.offsets(name, side)
        return np.asarray(vertices, dtype=np.float32)

    def pieces(self, shapes: Shapes, gaze: tuple[float, float], toward: NDArray[np.float64]) -> list[Piece]:
        """Return what is rendered. gaze: degrees to the person's left and up. toward: [3], where the camera is."""
        parts = self._model.surfaces.parts
        vertices = self.moved(shapes)
        skin = parts["skin"].mesh(vertices)
        return [
            Piece("skin", skin, self._skin_colours),
            plain("cloth", _shoulders(), self.person.cloth),
            plain("mouth", parts["gum"].mesh(vertices), GUM),
            plain("tooth", parts["teeth"].mesh(vertices), self._features.enamel),
            plain("lash", parts["lashes left"].mesh(vertices), LASH),
            plain("lash", parts["lashes right"].mesh(vertices), LASH),
            *self._features.pieces(skin, gaze, toward),
        ]


def _sphere(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return centre [3] and radius of the sphere nearest to points [N, 3], by least squares."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    solution = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


@cache
def _shoulders() -> Mesh:
    """Return shoulders in a shirt, which the model lacks: seven ellipses around the neck and below, made smooth."""
    height = np.array([-13.3, -14.8, -16.3, -18.3, -21.0, -25.0, -45.0])
    width = np.array([6.7, 9.4, 12.0, 15.5, 19.0, 21.5, 22.5])
    depth = np.array([6.8, 7.6, 8.2, 8.8, 9.8, 11.0, 12.0])
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rings = [
        np.stack([w * np.sin(around), np.full(48, y), d * np.cos(around) - 9.5], axis=1)
        for y, w, d in zip(height, width, depth, strict=True)
    ]
    vertices = np.concatenate(rings)
    ring, sector = np.meshgrid(np.arange(len(height) - 1), np.arange(48), indexing="ij")
    a, b = ring * 48 + sector, ring * 48 + (sector + 1) % 48
    quads = np.stack([a, a + 48, b + 48, b], axis=-1).reshape(-1, 4).astype(np.int32)
    uv = np.zeros((len(vertices), 2), dtype=np.float32)
    return Surface(Topology(quads, uv, quads), len(vertices), 2).mesh(vertices.astype(np.float32))
