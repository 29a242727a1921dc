"""One frame of a drawn face: a person's geometry, moved by action units, seen from a little to the side.

Coordinates are in half sides of the picture from its centre, x to the right and y down; eyes and mouth of an average
face lie where the crops of face recognisers have them (PAPER.md section 2, the ArcFace template).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.faces.geometry import Crop
from training.generated.people import Person

SIDE = 112
"""Side of a picture in pixels."""

_FINE = 2 * SIDE
_BITS = 4
Points = NDArray[np.float64]
Colour = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """The pose of a head: turned to the side and tilted in the picture (radians), scaled, shifted (half sides)."""

    yaw: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


def draw(who: Person, levels: NDArray[np.float64], closed: float = 0.0, pose: Pose | None = None) -> Crop:
    """uint8 [112, 112, 3] RGB: the face with its action units at `levels`, [12] in [0, 1], and its eyes `closed`.

    ValueError unless there is one level for each unit.
    """
    units = dict(zip(ACTION_UNITS, map(float, levels), strict=True))
    sketch = _Sketch(who, pose or Pose())
    skin = np.array(who.skin)
    _head(sketch, who, units["AU26"])
    _creases(sketch, who, units)
    for side in (-1, 1):
        _eye(sketch, who, units, closed, side)
        brow = brow_points(who, units) * (side, 1)
        sketch.line(brow, who.brow_weight, 0.75 * np.array(who.hair))
    y = -0.1 + who.nose_length
    sketch.line(
        np.array([(-0.08, y - 0.03), (-0.04, y + 0.02), (0.04, y + 0.02), (0.08, y - 0.03)]), 0.025, 0.65 * skin
    )
    sketch.line(np.array([(0.03, y - 0.25), (0.05, y - 0.05)]), 0.02, 0.85 * skin)
    _mouth(sketch, who, units)
    return cv2.resize(sketch.canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def project(points: Points, who: Person, pose: Pose) -> Points:
    """Points of the frontal face, float64 [K, 2], -> where they are seen in a pose, the same.

    Features lie on an ellipsoid, so a turned head moves its middle more than its rim.
    """
    x, y = points[:, 0], points[:, 1]
    depth = 0.8 * who.head_width * np.sqrt(np.clip(1 - (x / who.head_width) ** 2 - (y / 1.2) ** 2, 0, 1))
    turned = np.stack([x * np.cos(pose.yaw) + depth * np.sin(pose.yaw), y], axis=1)
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    seen: Points = pose.scale * turned @ np.array([(cos, sin), (-sin, cos)]) + pose.shift
    return seen


class _Sketch:
    """A canvas of twice the size, on which points of the frontal face are seen in a pose."""

    def __init__(self, who: Person, pose: Pose) -> None:
        self._who, self._pose = who, pose
        self.canvas: NDArray[np.uint8] = np.empty((_FINE, _FINE, 3), np.uint8)
        self.canvas[:] = np.array(who.background).clip(0, 255)

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """[K, 2] face points -> int32 [K, 2] in OpenCV's fixed point."""
        seen = project(points, self._who, self._pose)
        fixed: NDArray[np.int32] = np.rint(((seen + 1) * _FINE / 2 - 0.5) * 2**_BITS).astype(np.int32)
        return fixed

    def fill(self, points: Points, colour: Colour) -> None:
        cv2.fillPoly(self.canvas, [self.pixels(points)], tuple(colour), cv2.LINE_AA, _BITS)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        thickness = max(1, round(width * self._pose.scale * _FINE / 2))
        cv2.polylines(self.canvas, [self.pixels(points)], False, tuple(colour), thickness, cv2.LINE_AA, _BITS)


def _ellipse(centre: tuple[float, float], width: float, height: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([centre[0] + width * np.cos(angles), centre[1] + height * np.sin(angles)], axis=1)


def _curve(first: Sequence[float], control: Sequence[float], last: Sequence[float]) -> Points:
    """A parabola through `first`, its middle at `control`, and `last`: [15, 2]."""
    t = np.linspace(-1, 1, 15)[:, None]
    a = np.array(first)
    m = np.array(control)
    b = np.array(last)
    points: Points = m + t * (b - a) / 2 + t**2 * ((a + b) / 2 - m)
    return points


def _head(sketch: _Sketch, who: Person, jaw: float) -> None:
    hair, skin = np.array(who.hair), np.array(who.skin)
    sketch.fill(_ellipse((0, -0.05), 1.22 * who.head_width, 1.02 * who.head_height), hair)
    sketch.fill(np.array([(-0.3, 0.6), (0.3, 0.6), (0.38, 1.4), (-0.38, 1.4)]), 0.75 * skin)
    face = _ellipse((0, 0.08), who.head_width, who.head_height)
    face[:, 1] += 0.1 * jaw * (face[:, 1] > 0.08) * (face[:, 1] - 0.08) / who.head_height
    sketch.fill(face, 0.8 * skin)
    sketch.fill(face * (0.95, 0.985), skin)
    sketch.fill(_curve((-who.head_width, -0.45), (0, -0.5), (who.head_width, -0.45)) - (0, 0.12), hair)
    sketch.fill(_ellipse((0, -0.69), 0.86 * who.head_width, 0.22), hair)


def _creases(sketch: _Sketch, who: Person, units: Mapping[str, float]) -> None:
    """Lines in the skin, as dark as the unit is strong: forehead, brows, cheeks, nose and mouth."""
    skin = np.array(who.skin)

    def crease(points: Points, strength: float, width: float = 0.025) -> None:
        if strength > 0.05:
            sketch.line(points, width, skin * (1 - 0.4 * min(strength, 1)))

    for y in (-0.45, -0.38):
        crease(_curve((-0.28, y), (0, y - 0.03), (0.28, y)), 0.7 * max(units["AU1"], units["AU2"]))
    y, width = who.mouth_y, who.mouth_width
    crease(_curve((-0.16, y + 0.16), (0, y + 0.12), (0.16, y + 0.16)), units["AU24"], 0.035)
    fold = max(units["AU10"], 0.7 * units["AU12"])
    for side in (-1, 1):
        crease(np.array([(side * 0.05, -0.27), (side * 0.04, -0.16)]), units["AU4"])
        if units["AU6"] > 0.05:
            blush = skin * (1 - units["AU6"] * np.array([0.0, 0.14, 0.16]))
            sketch.fill(_ellipse((side * 1.2 * who.eye_distance, 0.22 - 0.05 * units["AU6"]), 0.13, 0.1), blush)
        x = side * who.eye_distance
        crease(_curve((x - 0.14, 0.07), (x, 0.1), (x + 0.14, 0.05)), units["AU6"])
        crease(_curve((side * 0.13, 0.2), (side * 0.25, 0.31), (side * (width + 0.08), 0.5)), fold)
        crease(np.array([(side * (width + 0.01), y - 0.05), (side * (width - 0.02), y + 0.06)]), units["AU23"], 0.035)


def brow_points(who: Person, units: Mapping[str, float]) -> Points:
    """The brow on the picture's right, float64 [3, 2]: inner end, middle, outer end."""
    base = -0.08 - who.brow_height
    inner = base - who.brow_slope - 0.1 * units["AU1"] + 0.08 * units["AU4"]
    outer = base + 0.03 + who.brow_slope - 0.11 * units["AU2"] + 0.02 * units["AU4"]
    middle = (inner + outer) / 2 - 0.04
    x = who.eye_distance
    return np.array([(x - 0.17 - 0.035 * units["AU4"], inner), (x, middle), (x + 0.17, outer)])


def _eye(sketch: _Sketch, who: Person, units: Mapping[str, float], closed: float, side: int) -> None:
    raised = (units["AU1"] + units["AU2"]) / 2
    upper = who.eye_height * (1 + 0.5 * raised - 0.3 * units["AU4"] - 0.35 * units["AU7"]) * (1 - closed)
    lower = who.eye_height * (0.75 - 0.45 * units["AU6"] - 0.4 * units["AU7"]) * (1 - 0.7 * closed)
    x, y = side * who.eye_distance, -0.08
    left, right = (x - who.eye_width, y), (x + who.eye_width, y)
    lid, rim = _curve(left, (x, y - upper), right), _curve(left, (x, y + lower), right)
    opening = np.concatenate([lid, rim[::-1]])
    sketch.fill(opening, np.array([235.0, 235.0, 230.0]))
    plain = sketch.canvas.copy()
    sketch.fill(_ellipse((x, y - 0.01), 0.062, 0.062), np.array(who.iris))
    sketch.fill(_ellipse((x, y - 0.01), 0.03, 0.03), np.array([10.0, 10.0, 10.0]))
    inside = np.zeros(plain.shape[:2], np.uint8)
    cv2.fillPoly(inside, [sketch.pixels(opening)], 255, cv2.LINE_8, _BITS)
    sketch.canvas[inside == 0] = plain[inside == 0]
    sketch.line(lid, 0.03, 0.3 * np.array(who.skin))
    sketch.line(rim, 0.012, 0.6 * np.array(who.skin))


@dataclass(frozen=True)
class Mouth:
    """Key points of a mouth: half its width, y of its corners, and y of its lips' four edges at the middle."""

    half_width: float
    corner_y: float
    upper_y: float
    upper_inner_y: float
    lower_inner_y: float
    lower_y: float


def mouth(who: Person, units: Mapping[str, float]) -> Mouth:
    """The mouth that units, in [0, 1] by name, give this person; a smile (AU12) raises its corners and widens it."""
    lip = who.lip * (1 - 0.5 * units["AU23"]) * (1 - 0.75 * units["AU24"])
    gap = (0.05 * units["AU25"] + 0.2 * units["AU26"]) * (1 - units["AU24"])
    lifted = 0.07 * units["AU10"]
    middle = who.mouth_y + 0.02 * units["AU12"]
    return Mouth(
        who.mouth_width * (1 + 0.35 * units["AU12"] - 0.25 * units["AU23"] - 0.15 * units["AU26"]),
        who.mouth_y - who.mouth_lift - 0.13 * units["AU12"] + 0.1 * units["AU15"] + gap / 3,
        middle - lip - lifted,
        middle - 0.6 * lifted,
        middle + gap,
        middle + gap + 1.2 * lip,
    )


def _mouth(sketch: _Sketch, who: Person, units: Mapping[str, float]) -> None:
    shape, skin = mouth(who, units), np.array(who.skin)
    left, right = (-shape.half_width, shape.corner_y), (shape.half_width, shape.corner_y)

    def between(upper: float, lower: float) -> Points:
        return np.concatenate([_curve(left, (0, upper), right), _curve(left, (0, lower), right)[::-1]])

    sketch.fill(between(shape.upper_y, shape.lower_y), skin * (0.85, 0.55, 0.6))
    if (gap := shape.lower_inner_y - shape.upper_inner_y) > 0.02:
        sketch.fill(between(shape.upper_inner_y, shape.lower_inner_y), np.array([60.0, 20.0, 25.0]))
        teeth = between(shape.upper_inner_y, shape.upper_inner_y + 0.4 * gap)
        sketch.fill(teeth * (0.9, 1), np.array([225.0, 222.0, 212.0]))
    else:
        closed_y = (shape.upper_inner_y + shape.lower_inner_y) / 2
        sketch.line(_curve(left, (0, closed_y), right), 0.02, skin * (0.4, 0.25, 0.25))
