"""What a face does: intensities of action units on both sides, drawn as single units, combinations and expressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from model_core.affect import ACTION_UNITS, LABEL_SETS

Side: TypeAlias = Literal["left", "right"]
"""The person's own left or right."""

SIDES: tuple[Side, ...] = ("left", "right")

Shapes: TypeAlias = Mapping[tuple[str, Side], float]
"""(name of a shape without its side, side) -> weight; 1 is the shape as its maker drew it."""

Kind: TypeAlias = Literal["neutral", "single", "pair", "expression", "other"]

DRAWN_UNITS = tuple(unit for unit in ACTION_UNITS if unit != "AU25")
"""The units that can be drawn at a chosen intensity; AU25 is measured on the lips."""

OTHER_UNITS = ("AU5", "AU9", "AU14", "AU16", "AU17", "AU18", "AU20", "AU22", "AU28", "AU34", "AU43")
"""Movements beside the twelve units, from which those must be told apart."""

ONE_SIDED = ("AU2", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15")
"""The units that people move on one side alone."""

_CLOSING = ("AU23", "AU24", "AU28")
_OPENING = ("AU10", "AU16", "AU22", "AU26")

EXPRESSIONS: Mapping[str, Sequence[Mapping[str, float]]] = MappingProxyType(
    {
        "happiness": (
            {"AU6": 0.8, "AU12": 1.0},
            {"AU6": 0.8, "AU12": 1.0, "AU16": 0.35, "AU10": 0.3},
            {"AU6": 0.7, "AU7": 0.3, "AU12": 1.0, "AU10": 0.3, "AU26": 0.5},
            {"AU12": 1.0},
            {"AU12": 0.9, "AU16": 0.3, "AU26": 0.25},
        ),
        "surprise": (
            {"AU1": 1.0, "AU2": 1.0, "AU5": 0.6, "AU26": 0.9},
            {"AU1": 1.0, "AU2": 1.0, "AU26": 0.6},
            {"AU1": 0.9, "AU2": 1.0, "AU5": 0.7},
        ),
        "sadness": (
            {"AU1": 1.0, "AU4": 0.6, "AU15": 0.9},
            {"AU1": 0.9, "AU4": 0.5, "AU15": 0.8, "AU17": 0.6},
            {"AU1": 0.8, "AU15": 1.0},
            {"AU4": 0.4, "AU15": 0.9, "AU17": 0.5},
            {"AU1": 0.8, "AU4": 0.7, "AU6": 0.4, "AU15": 0.7},
        ),
        "anger": (
            {"AU4": 1.0, "AU5": 0.5, "AU7": 0.7, "AU24": 0.8},
            {"AU4": 1.0, "AU7": 0.7, "AU23": 0.9},
            {"AU4": 1.0, "AU5": 0.4, "AU7": 0.6, "AU23": 0.8, "AU17": 0.4},
            {"AU4": 1.0, "AU7": 0.6, "AU10": 0.6, "AU16": 0.5},
            {"AU4": 1.0, "AU7": 0.8, "AU24": 0.7, "AU17": 0.5},
        ),
        "disgust": (
            {"AU9": 1.0, "AU10": 0.8},
            {"AU9": 1.0, "AU10": 0.7, "AU4": 0.5, "AU7": 0.5},
            {"AU10": 1.0, "AU17": 0.6},
            {"AU9": 0.9, "AU15": 0.6, "AU17": 0.5},
            {"AU9": 0.9, "AU10": 0.8, "AU16": 0.5, "AU26": 0.3},
        ),
        "fear": (
            {"AU1": 1.0, "AU2": 0.8, "AU4": 0.7, "AU5": 1.0, "AU20": 0.7, "AU26": 0.4},
            {"AU1": 1.0, "AU2": 0.8, "AU4": 0.6, "AU5": 1.0, "AU16": 0.5},
            {"AU1": 0.9, "AU4": 0.6, "AU5": 0.9, "AU7": 0.4, "AU20": 0.9},
            {"AU1": 1.0, "AU2": 0.9, "AU4": 0.5, "AU5": 1.0, "AU26": 0.7},
        ),
        "contempt": (
            {"AU14": 1.0},
            {"AU12": 0.6, "AU14": 0.7},
            {"AU14": 0.9, "AU10": 0.4},
            {"AU14": 0.9, "AU7": 0.4, "AU2": 0.3},
        ),
    }
)
"""FER+'s expressions as combinations of units, after EMFACS' prototypes (Friesen & Ekman, 1983) and their variants.

Contempt is on one side of the face.
"""

_LABELS = LABEL_SETS["ferplus"]


@dataclass(frozen=True)
class Movement:
    """The movements of a face in a picture."""

    kind: Kind
    left: Mapping[str, float]
    """Unit -> intensity on the person's left side, in [0, 1]; units that are not named are 0."""
    right: Mapping[str, float]
    expression: str | None = None
    """The composed expression, of FER+'s, or None: single units and pairs are not called one."""
    strength: float = 0.0
    """Intensity of the whole movement, in [0, 1]."""
    closed_jaw: bool = False
    """True where the lips stay together although the jaw drops."""

    def side(self, side: Side) -> Mapping[str, float]:
        """Return the intensities on one side."""
        return self.left if side == "left" else self.right


def votes(movement: Movement) -> tuple[float, ...]:
    """Return shares of FER+'s eight labels, which sum to 1; all 0 where no expression was composed.

    A slight expression is shared with neutral: from strength 0.1, neutral alone, to 0.5, the expression alone.
    """
    if movement.expression is None:
        return (0.0,) * len(_LABELS)
    share = 1.0 if movement.kind == "neutral" else float(np.clip((movement.strength - 0.1) / 0.4, 0, 1))
    shares = {"neutral": 1 - share}
    shares[movement.expression] = shares.get(movement.expression, 0.0) + share
    return tuple(shares.get(label, 0.0) for label in _LABELS)


def neutral(rng: np.random.Generator) -> Movement:
    """Draw a face at rest; nobody's is quite still, so a unit or two are at up to 0.05."""
    return Movement("neutral", *_with_tremor({}, {}, rng), expression="neutral")


def single(unit: str, strength: float, rng: np.random.Generator) -> Movement:
    """Draw one unit of the twelve at a strength, one-sided in a fifth of the pictures where people can do that.

    AU25 parts the lips by the lower one, the upper one or both, since it is measured.
    """
    if unit == "AU25":
        ways = ({"AU16": 1.0}, {"AU16": 0.8, "AU10": 0.15}, {"AU26": 0.35}, {"AU22": 0.6})
        way = ways[rng.integers(len(ways))]
        chosen = {name: share * strength for name, share in way.items()}
    else:
        chosen = {unit: strength}
    left, right = _sided(chosen, unit in ONE_SIDED and rng.random() < 0.2, rng)
    closed = unit == "AU26" and rng.random() < 0.15
    return Movement("single", *_with_tremor(left, right, rng), strength=strength, closed_jaw=bool(closed))


def pair(strength: float, rng: np.random.Generator) -> Movement:
    """Draw two or three units at once. Lips that are pressed or tightened are not opened by another unit."""
    units = list(DRAWN_UNITS)
    count = 2 if rng.random() < 0.7 else 3
    chosen: dict[str, float] = {}
    while len(chosen) < count:
        unit = units[rng.integers(len(units))]
        closing = unit in _CLOSING and any(other in _OPENING + _CLOSING for other in chosen)
        opening = unit in _OPENING and any(other in _CLOSING for other in chosen)
        if not (closing or opening):
            chosen[unit] = float(np.clip(strength * rng.uniform(0.6, 1.2), 0, 1))
    return Movement("pair", *_with_tremor(chosen, dict(chosen), rng), strength=strength)


def expression(name: str, strength: float, rng: np.random.Generator) -> Movement:
    """Draw one of the combinations of an expression, each unit a little stronger or weaker than in the table."""
    variants = EXPRESSIONS[name]
    variant = variants[int(rng.integers(len(variants)))]
    chosen = {unit: float(np.clip(strength * share * rng.uniform(0.75, 1.2), 0, 1)) for unit, share in variant.items()}
    left, right = _sided(chosen, name == "contempt", rng)
    return Movement("expression", *_with_tremor(left, right, rng), expression=name, strength=strength)


def other(strength: float, rng: np.random.Generator) -> Movement:
    """Draw one or two movements beside the twelve units."""
    units = rng.choice(OTHER_UNITS, 1 if rng.random() < 0.7 else 2, replace=False)
    chosen = {str(unit): strength for unit in units}
    left, right = _sided(chosen, "AU14" in chosen and rng.random() < 0.5, rng)
    return Movement("other", *_with_tremor(left, right, rng), strength=strength)


def draw_strength(rng: np.random.Generator) -> float:
    """Draw a strength in [0.1, 1]; two in five are below 0.4."""
    low, high = ((0.1, 0.4), (0.4, 0.7), (0.7, 1.0))[rng.choice(3, p=[0.4, 0.33, 0.27])]
    return float(rng.uniform(low, high))


def _sided(
    chosen: Mapping[str, float], one_sided: bool, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the intensities of both sides: on one alone, or on both with the small differences that faces have."""
    if one_sided:
        weaker = {unit: value * rng.uniform(0, 0.15) for unit, value in chosen.items()}
        return (dict(chosen), weaker) if rng.random() < 0.5 else (weaker, dict(chosen))
    difference = rng.normal(0, 0.05)
    left = {unit: float(np.clip(value * (1 + difference), 0, 1)) for unit, value in chosen.items()}
    right = {unit: float(np.clip(value * (1 - difference), 0, 1)) for unit, value in chosen.items()}
    return left, right


def _with_tremor(
    left: dict[str, float], right: dict[str, float], rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    for unit in rng.choice(DRAWN_UNITS, rng.integers(0, 3), replace=False):
        if unit not in left and unit not in _CLOSING:
            slight = float(rng.uniform(0, 0.05))
            left[str(unit)], right[str(unit)] = slight, slight
    return left, right
