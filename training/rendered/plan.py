"""The order of the pictures: sittings of one person each, so that any first part of them is a small data set.

A sitting is one person in one pose and light: first at rest, then moving. The people take turns, and so do the units
and expressions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from training.rendered.movements import EXPRESSIONS, Movement, draw_strength, expression, neutral, other, pair, single
from training.rendered.people import Model, Person, Sex, Tone, person

SITTING = 8
"""Pictures of a sitting, unless it is a short one."""
SHORT_SITTING = 4
"""Pictures of a short sitting, of which more people have one in the same time."""

_UNITS = tuple(ACTION_UNITS)
_EXPRESSIONS = tuple(EXPRESSIONS)
_OTHER_TONE: dict[Tone, Tone] = {"light": "dark", "medium": "light", "dark": "medium"}
_OTHER_SEX: dict[Sex, Sex] = {"female": "male", "male": "female"}


@dataclass(frozen=True)
class Pose:
    """Of the head, in degrees: yaw to the person's left, pitch up, roll to the person's right shoulder."""

    yaw: float
    pitch: float
    roll: float

    def matrix(self) -> NDArray[np.float64]:
        """Return the rotation, float64 [3, 3]: roll first, then pitch, then yaw."""
        yaw, pitch, roll = np.radians([self.yaw, -self.pitch, self.roll])
        about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        return np.asarray(about_y @ about_x @ about_z)


@dataclass(frozen=True)
class Sitting:
    """Pictures of one person in one pose and light."""

    number: int
    person: Person
    seed: int
    """Of the pose, the light and the camera."""
    movements: tuple[Movement, ...]
    """The first is neutral."""


@dataclass(frozen=True)
class Plan:
    """The size of a data set. Raises ValueError where a number is out of range."""

    models: tuple[Model, ...]
    """The head models, which take turns."""
    people: int
    """People of each model."""
    seed: int
    """The same seed gives the same pictures."""
    sitting: int = SITTING
    """Pictures of each sitting, SITTING or SHORT_SITTING."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("at least one head model is needed")
        if self.people < 1:
            raise ValueError(f"at least one person of each model is needed, not {self.people}")
        if self.seed < 0:
            raise ValueError(f"a seed is at least 0, not {self.seed}")
        if self.sitting not in (SITTING, SHORT_SITTING):
            raise ValueError(f"a sitting has {SITTING} or {SHORT_SITTING} pictures, not {self.sitting}")

    def sittings(self) -> Iterator[Sitting]:
        """Return sittings without end. Every sitting of a test person is followed by that of a counterpart."""
        number = 0
        while True:
            for index in range(self.people):
                for model in self.models:
                    who = person(model, index, self.seed)
                    sitting = self._sitting(number, who)
                    yield sitting
                    number += 1
                    if who.split == "test":
                        yield replace(sitting, number=number, person=counterpart(who, number))
                        number += 1

    def _sitting(self, number: int, who: Person) -> Sitting:
        rng = np.random.default_rng([self.seed, 1, number])
        movements = _movements if self.sitting == SITTING else _few_movements
        return Sitting(number, who, int(rng.integers(2**31)), tuple(movements(number, rng)))


def counterpart(who: Person, number: int) -> Person:
    """Return the same person with one attribute changed; skin, sex and age take turns by the sitting's number.

    In ICT-FaceKit's model sex and age do not shape the head, so only the skin changes.
    """
    attribute = ("skin", "sex", "age")[number % 3] if who.model == "makehuman" else "skin"
    changed = replace(who, name=f"{who.name}-{attribute}")
    if attribute == "skin":
        return replace(changed, tone=_OTHER_TONE[who.tone])
    if attribute == "sex":
        return replace(changed, sex=_OTHER_SEX[who.sex], stubble=0.0)
    return replace(changed, age=70.0 if who.age < 50 else 28.0)


def _movements(number: int, rng: np.random.Generator) -> Iterator[Movement]:
    """Return the movements of a sitting: neutral, three single units, a pair, two expressions, and one of any kind.

    The single units of four consecutive sittings are the twelve units.
    """
    yield neutral(rng)
    for place in range(3):
        yield single(_UNITS[(3 * number + place) % len(_UNITS)], draw_strength(rng), rng)
    yield pair(draw_strength(rng), rng)
    for place in range(2):
        yield expression(_EXPRESSIONS[(2 * number + place) % len(_EXPRESSIONS)], draw_strength(rng), rng)
    kind = rng.choice(3, p=[0.4, 0.3, 0.3])
    if kind == 0:
        yield other(draw_strength(rng), rng)
    elif kind == 1:
        yield single(_UNITS[rng.integers(len(_UNITS))], draw_strength(rng), rng)
    else:
        yield neutral(rng)


def _few_movements(number: int, rng: np.random.Generator) -> Iterator[Movement]:
    """Return the movements of a short sitting: neutral, a single unit, an expression, and one of any kind.

    The single units of twelve consecutive sittings are the twelve units.
    """
    yield neutral(rng)
    yield single(_UNITS[number % len(_UNITS)], draw_strength(rng), rng)
    yield expression(_EXPRESSIONS[number % len(_EXPRESSIONS)], draw_strength(rng), rng)
    kind = rng.choice(4, p=[0.5, 0.3, 0.1, 0.1])
    if kind == 0:
        yield single(_UNITS[rng.integers(len(_UNITS))], draw_strength(rng), rng)
    elif kind == 1:
        yield pair(draw_strength(rng), rng)
    elif kind == 2:
        yield other(draw_strength(rng), rng)
    else:
        yield neutral(rng)
