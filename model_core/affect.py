"""The vocabulary of facial affect: expression labels, action units, and what a model says about a face.

Everything that crosses a package border is named here. Labels are always carried by name: two label sets of the same
length (FER+ and ABAW both have eight) are not interchangeable, so no code may rely on an index.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from torch import Tensor

Task: TypeAlias = Literal["valence_arousal", "expression", "action_units"]
Reference: TypeAlias = Literal["annotated", "derived"]
"""Where a task's training targets came from: human annotation, or labels derived by a rule or another model."""

TASKS: tuple[Task, ...] = ("valence_arousal", "expression", "action_units")

LABEL_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ferplus": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
        "affectnet8": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
        "rafdb": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
        "abaw": ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other"),
    }
)
"""Expression label sets in the order of each data set's own files. `contempt` and `other` do not correspond."""

ACTION_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "AU1": "inner brow raiser",
        "AU2": "outer brow raiser",
        "AU4": "brow lowerer",
        "AU6": "cheek raiser",
        "AU7": "lid tightener",
        "AU10": "upper lip raiser",
        "AU12": "lip corner puller",
        "AU15": "lip corner depressor",
        "AU23": "lip tightener",
        "AU24": "lip pressor",
        "AU25": "lips part",
        "AU26": "jaw drop",
    }
)
"""The twelve units of the ABAW challenge with their FACS names (Ekman & Friesen), in the challenge's order."""


@dataclass(frozen=True)
class AffectLogits:
    """Raw network outputs for a batch of B faces, before calibration; a task the model lacks is None.

    valence_arousal: float [B, 2], already in [-1, 1] (tanh); expression: float [B, C]; action_units: float [B, 12].
    """

    valence_arousal: Tensor | None = None
    expression: Tensor | None = None
    action_units: Tensor | None = None


@dataclass(frozen=True)
class AffectTarget:
    """Training targets for a batch of B faces. A mask of 0 takes the entry out of loss and metrics.

    valence_arousal: float [B, 2] in [-1, 1] with mask [B]; expression: float [B, C], each row a distribution over the
    labels, with mask [B]; action_units: float [B, 12] in [0, 1] with mask [B, 12].
    """

    valence_arousal: Tensor
    valence_arousal_mask: Tensor
    expression: Tensor
    expression_mask: Tensor
    action_units: Tensor
    action_units_mask: Tensor


@dataclass(frozen=True)
class Expression:
    """A calibrated distribution over expression labels; `label` is its most probable entry."""

    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class ActionUnit:
    """Calibrated probability in [0, 1] that the unit is present (not its intensity), and the thresholded decision."""

    probability: float
    active: bool


@dataclass(frozen=True)
class Affect:
    """Calibrated estimates for one face; a task no model covers is None. Valence and arousal lie in [-1, 1]."""

    valence: float | None = None
    arousal: float | None = None
    expression: Expression | None = None
    action_units: Mapping[str, ActionUnit] | None = None
