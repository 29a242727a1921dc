"""From a sitting to its pictures: pose, camera, light, gaze and the maker of the shapes are drawn from its seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from training.rendered.light import Film, develop, draw_background, draw_film, draw_sky
from training.rendered.movements import SIDES, Movement, Shapes, Side
from training.rendered.people import Model, Person, Tone
from training.rendered.pieces import Piece
from training.rendered.plan import Pose, Sitting
from training.rendered.scene import Camera, Renderer, Shot
from training.rendered.units import blink_left, gaze_shapes, lips_part, movement_shapes, scaled, summed

_PIVOT = np.array([0.0, -6.0, -9.0])
"""The head turns about this point of the neck, in cm from the middle between the eyes."""

_GAIN: dict[Tone, float] = {"light": 0.9, "medium": 1.15, "dark": 1.8}
"""Exposure of a camera that allows for the skin in part."""


class Head(Protocol):
    """A person's head, which can be moved."""

    person: Person

    def lip_gap(self, shapes: Shapes) -> float:
        """Return how far the lips are apart in the middle, in cm, beyond what they are at rest."""
        ...

    def pieces(self, shapes: Shapes, gaze: tuple[float, float], toward: NDArray[np.float64]) -> list[Piece]:
        """Return what is rendered. gaze: degrees to the person's left and up. toward: [3], where the camera is."""
        ...


class HeadModel(Protocol):
    """Makes the heads of people."""

    def head(self, person: Person) -> Head:
        """Return a person's head."""
        ...


@dataclass(frozen=True)
class Portrait:
    """A picture and the truth about it."""

    picture: NDArray[np.uint8]
    """uint8 [size, size, 3] RGB."""
    movement: Movement
    left: tuple[float, ...]
    """Intensity of each unit of ACTION_UNITS on the person's left side, in [0, 1]."""
    right: tuple[float, ...]
    pose: Pose
    gaze: tuple[float, float]
    """Degrees to the person's left and up, relative to the head."""
    eyes_closed: float
    """How far the lids are closed by a blink, in [0, 1]."""


@dataclass(frozen=True)
class _Scene:
    """The person, pose and light that the pictures of a sitting share."""

    pose: Pose
    camera: Camera
    sky: NDArray[np.float32]
    background: NDArray[np.float32]
    film: Film
    at_camera: bool
    makers: tuple[float, float]
    """Shares of `faceunits` and `expression` for MakeHuman's mesh."""


class Studio:
    """Takes the pictures of sittings."""

    def __init__(self, models: dict[Model, HeadModel], renderer: Renderer, size: int) -> None:
        self._models = models
        self._renderer = renderer
        self._size = size

    def portraits(self, sitting: Sitting) -> Iterator[Portrait]:
        """Return the pictures of a sitting, in the order of its movements."""
        rng = np.random.default_rng(sitting.seed)
        scene = _draw_scene(self._size, sitting.person.tone, rng)
        head = self._models[sitting.person.model].head(sitting.person)
        for place, movement in enumerate(sitting.movements):
            # Each picture has a generator of its own, so that it does not depend on the ones before.
            yield self._portrait(head, movement, scene, np.random.default_rng([sitting.seed, place]))

    def _portrait(self, head: Head, movement: Movement, scene: _Scene, rng: np.random.Generator) -> Portrait:
        pose = Pose(*(angle + rng.normal(0, 1.5) for angle in (scene.pose.yaw, scene.pose.pitch, scene.pose.roll)))
        gaze = _draw_gaze(pose, scene.at_camera, rng)
        blink = float(rng.uniform(0.7, 1.0)) if rng.random() < 0.06 else 0.0
        shapes = summed(
            _drawn_by(scene, movement, head.person.model),
            {("eyeBlink", side): blink_left(movement.side(side)) * blink for side in SIDES},
            scaled(gaze_shapes(*gaze), 1 - blink),
        )
        rotation = pose.matrix()
        eye = np.array([*scene.camera.shift_cm, scene.camera.distance_cm])
        toward = rotation.T @ (eye - _PIVOT) + _PIVOT
        pieces = head.pieces(shapes, gaze, toward / np.linalg.norm(toward))
        shot = Shot(rotation, _PIVOT, scene.camera, scene.sky)
        light = self._renderer.render(pieces, shot, int(rng.integers(2**31)))
        picture = develop(light, scene.background, scene.film, rng)
        parted = lips_part(head.lip_gap(shapes))
        left, right = (_intensities(movement.side(side), parted) for side in SIDES)
        closed = max(blink, *(movement.side(side).get("AU43", 0.0) for side in SIDES))
        return Portrait(picture, movement, left, right, pose, gaze, closed)


def _drawn_by(scene: _Scene, movement: Movement, model: Model) -> dict[tuple[str, Side], float]:
    if model == "ict":
        return movement_shapes("ict", movement)
    faceunits, own = scene.makers
    return summed(
        scaled(movement_shapes("faceunits", movement), faceunits), scaled(movement_shapes("expression", movement), own)
    )


def _intensities(units: Mapping[str, float], parted: float) -> tuple[float, ...]:
    return tuple(parted if unit == "AU25" else min(units.get(unit, 0.0), 1.0) for unit in ACTION_UNITS)


def _draw_scene(size: int, tone: Tone, rng: np.random.Generator) -> _Scene:
    yaw = rng.normal(0, 10) if rng.random() < 0.55 else rng.uniform(-45, 45)
    pose = Pose(
        float(np.clip(yaw, -45, 45)),
        float(np.clip(rng.normal(0, 8), -22, 22)),
        float(np.clip(rng.normal(0, 5), -18, 18)),
    )
    distance = float(np.exp(rng.uniform(np.log(45), np.log(250))))
    height = rng.uniform(23, 35)
    # The eyes lie a little above the middle of the picture, and move off it as the head turns about the neck.
    eyes = pose.matrix() @ -_PIVOT + _PIVOT
    shift = (float(eyes[0] + rng.normal(0, 1.2)), float(eyes[1] - 2.5 + rng.normal(0, 1.2)))
    mix = rng.choice(3, p=[0.4, 0.35, 0.25])
    own = (0.0, 1.0, float(rng.uniform(0.2, 0.8)))[mix]
    return _Scene(
        pose=pose,
        camera=Camera(distance, float(height), shift),
        sky=draw_sky(rng),
        background=draw_background(size, rng),
        film=draw_film(_GAIN[tone], rng),
        at_camera=bool(rng.random() < 0.65),
        makers=(1 - own, own),
    )


def _draw_gaze(pose: Pose, at_camera: bool, rng: np.random.Generator) -> tuple[float, float]:
    if at_camera:
        left, up = -pose.yaw + rng.normal(0, 2), -pose.pitch + rng.normal(0, 2)
    else:
        left, up = rng.normal(0, 12), rng.normal(-3, 8)
    return float(np.clip(left, -28, 28)), float(np.clip(up, -20, 18))
