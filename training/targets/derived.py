"""Targets derived by fixed rules where nobody annotated any. Bundles trained on them declare the task `derived`.

Action units come from blendshape scores (teacher.py). Valence and arousal come from votes over expressions, placed
where Russell & Mehrabian (1977) found the words, with arousal scaled by how strongly the face moves.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from training.targets.teacher import BLENDSHAPES, TeacherReading

CIRCUMPLEX: Mapping[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happiness": (0.81, 0.51),
    "surprise": (0.40, 0.67),
    "sadness": (-0.63, -0.27),
    "anger": (-0.51, 0.59),
    "disgust": (-0.60, 0.35),
    "fear": (-0.64, 0.60),
    "contempt": (-0.23, 0.31),
}
"""Valence and arousal of the expression words (Russell & Mehrabian 1977)."""

OPEN_LIP_GAP = 0.10
"""Inner lip distance over face height at which AU25's target reaches 1; 0.03, its usual onset, then scores 0.3."""


def action_units(reading: TeacherReading) -> NDArray[np.float32]:
    """Return scores in the order of ACTION_UNITS, float32 [12] in [0, 1]; the rules are not validated against FACS."""
    score = dict(zip(BLENDSHAPES, reading.blendshapes.tolist(), strict=True))

    def sides(name: str) -> tuple[float, float]:
        return score[name + "Left"], score[name + "Right"]

    def mean(name: str) -> float:
        return sum(sides(name)) / 2

    units = {
        "AU1": score["browInnerUp"],
        "AU2": max(sides("browOuterUp")),
        "AU4": max(sides("browDown")),
        "AU6": min(mean("mouthSmile"), mean("eyeSquint")),
        "AU7": mean("eyeSquint"),
        "AU10": mean("mouthUpperUp"),
        "AU12": mean("mouthSmile"),
        "AU15": mean("mouthFrown"),
        "AU23": (score["mouthRollLower"] + score["mouthRollUpper"]) / 2,
        "AU24": mean("mouthPress"),
        "AU25": min(1.0, reading.lip_gap / OPEN_LIP_GAP),
        "AU26": score["jawOpen"],
    }
    return np.array([units[name] for name in ACTION_UNITS], dtype=np.float32)


def circumplex_table(labels: Sequence[str]) -> NDArray[np.float64]:
    """Return each label's valence and arousal, float64 [C, 2]. Raises KeyError for a label not in CIRCUMPLEX."""
    return np.array([CIRCUMPLEX[label] for label in labels])


def valence_arousal(
    expression: NDArray[np.float64], strength: NDArray[np.float64], labels: Sequence[str]
) -> NDArray[np.float32]:
    """Return float32 [N, 2] in [-1, 1], from distributions [N, C] over `labels` and facial strengths [N] in [0, 1]."""
    expected = expression @ circumplex_table(labels)
    expected[:, 1] *= 0.6 + 0.4 * strength
    return expected.astype(np.float32)


def facial_strength(blendshapes: NDArray[np.float32], reference: float) -> NDArray[np.float64]:
    """Return `mean_movement` over `reference`, its 95th percentile on training faces, float64 [N] in [0, 1]."""
    return np.minimum(1.0, mean_movement(blendshapes) / max(reference, 1e-6))


def mean_movement(blendshapes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the 51 scores other than `_neutral`, float64 [N]."""
    return np.asarray(blendshapes[:, 1:].mean(axis=1), dtype=np.float64)
