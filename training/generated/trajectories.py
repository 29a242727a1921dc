"""What a face shows over time: expressions that come and go, and all labels that follow from them by two tables.

A face holds one of the eight ABAW expressions for 12 to 30 frames and passes smoothly into the next. Action units,
valence and arousal are linear in the expressions' intensities; now and then the face also talks, which parts the lips
whatever it expresses. The tables are plausible (after EMFACS and the circumplex), not measured: they give a network
something consistent to learn, and nothing about people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.generated.spans import spans

EXPRESSIONS = LABEL_SETS["abaw"]

UNITS_OF: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "neutral": {},
        "anger": {"AU4": 1.0, "AU7": 0.8, "AU23": 0.9, "AU24": 0.6},
        "disgust": {"AU4": 0.6, "AU7": 0.5, "AU10": 1.0, "AU15": 0.4},
        "fear": {"AU1": 0.9, "AU2": 0.6, "AU4": 0.6, "AU25": 0.9, "AU26": 0.3},
        "happiness": {"AU6": 1.0, "AU7": 0.3, "AU12": 1.0, "AU25": 0.6},
        "sadness": {"AU1": 0.9, "AU4": 0.5, "AU15": 1.0},
        "surprise": {"AU1": 1.0, "AU2": 1.0, "AU25": 0.9, "AU26": 1.0},
        "other": {"AU2": 0.7, "AU7": 0.7, "AU24": 1.0},
    }
)
"""How strongly each unit, in [0, 1], moves in the full expression; units that are not named rest."""

AFFECT_OF: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "neutral": (0.0, 0.0),
        "anger": (-0.7, 0.7),
        "disgust": (-0.7, 0.3),
        "fear": (-0.6, 0.8),
        "happiness": (0.9, 0.5),
        "sadness": (-0.8, -0.4),
        "surprise": (0.2, 0.9),
        "other": (-0.1, 0.2),
    }
)
"""Valence and arousal of the full expression, each in [-1, 1]."""

SHOWN = 0.35
"""From this intensity on a frame is called by its strongest expression; below, neutral."""

PRESENT = 0.35
"""From this level on an action unit is annotated as present."""

_HOLD = (12, 30)
_EASE = np.hanning(13)[1:-1]
_UNITS = np.array([[UNITS_OF[name].get(unit, 0.0) for unit in ACTION_UNITS] for name in EXPRESSIONS])
_AFFECT = np.array([AFFECT_OF[name] for name in EXPRESSIONS])


@dataclass(frozen=True)
class Trajectory:
    """The expressions and labels of one face in T frames.

    intensities: float64 [T, 8] in the order of EXPRESSIONS, at least 0, each row's sum at most 1; levels: float64
    [T, 12] in [0, 1] in the order of ACTION_UNITS; closed: float64 [T] in [0, 1], 1 where a blink shuts the eyes.
    """

    intensities: NDArray[np.float64]
    levels: NDArray[np.float64]
    closed: NDArray[np.float64]

    @property
    def valence_arousal(self) -> NDArray[np.float64]:
        """float64 [T, 2] in [-1, 1]."""
        values: NDArray[np.float64] = self.intensities @ _AFFECT
        return values

    @property
    def expression(self) -> NDArray[np.int64]:
        """int64 [T], an index of EXPRESSIONS, which is the number in the official files."""
        strongest = self.intensities.argmax(axis=1)
        return np.where(self.intensities.max(axis=1) >= SHOWN, strongest, EXPRESSIONS.index("neutral"))

    @property
    def action_units(self) -> NDArray[np.int64]:
        """int64 [T, 12] of 0 and 1: absent, present."""
        return (self.levels >= PRESENT).astype(np.int64)


def trajectory(frames: int, rng: np.random.Generator) -> Trajectory:
    """Return the trajectory of a face in this many frames, at least 1."""
    intensities = _eased(_episodes(frames, rng))
    talking = _eased(spans(frames, 0.2, 40, rng)[:, None].astype(np.float64))[:, 0]
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(frames) / rng.uniform(6, 10) + rng.random()))
    levels = intensities @ _UNITS
    for unit, strength in (("AU25", 0.8), ("AU26", 0.4)):
        levels[:, list(ACTION_UNITS).index(unit)] += strength * talking * syllables
    return Trajectory(intensities, levels.clip(0, 1), _blinks(frames, rng))


def _episodes(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64 [frames, 8]: one expression at a time, switched from one frame to the next.

    Expressions are dealt like cards, so that a short video shows many of them; neutral is twice in the deck.
    """
    steps = np.zeros((frames, len(EXPRESSIONS)))
    deck = (*range(len(EXPRESSIONS)), EXPRESSIONS.index("neutral"))
    start = 0
    while start < frames:
        for expression in rng.permutation(deck):
            end = start + int(rng.integers(*_HOLD, endpoint=True))
            steps[start:end, expression] = rng.uniform(0.55, 1.0)
            start = end
    return steps


def _eased(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, K] -> the same with each jump spread over the window's frames; no row's sum grows beyond the largest."""
    half = len(_EASE) // 2
    padded = np.pad(steps, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, _EASE / _EASE.sum(), mode="valid") for column in padded.T], axis=1)


def _blinks(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    closed = np.zeros(frames + 4)
    for start in np.flatnonzero(rng.random(frames) < 1 / 60):
        closed[start : start + 5] = (0.4, 0.9, 1.0, 0.7, 0.3)
    return closed[:frames]
