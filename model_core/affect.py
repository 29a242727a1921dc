"""The vocabulary of facial affect: tasks, expression labels, action units, and the estimates for a face.

Everything that crosses a package border is named here. Labels are always carried by name: two label sets of the same
length (FER+ and ABAW both have eight) are not interchangeable, so no code may rely on an index.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:  # serving does without torch
    from torch import Tensor

LearnedTask: TypeAlias = Literal["valence_arousal", "expression", "action_units"]
"""Name of a task that networks are trained for."""

Task: TypeAlias = Literal[LearnedTask, "eyes_closed", "unit_changes"]
"""Name of a task, and of its field in AffectLogits. The last two are read off what a network has learned."""

Reference: TypeAlias = Literal["annotated", "derived", "rendered"]
"""Origin of a task's training targets: human annotation, derivation by a rule or another model, or rendered faces."""

REFERENCES: tuple[Reference, ...] = get_args(Reference)

LEARNED_TASKS: tuple[LearnedTask, ...] = get_args(LearnedTask)

TASKS: tuple[Task, ...] = get_args(Task)
"""All tasks, in the order in which their outputs are concatenated."""

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
    """Raw network outputs for a batch of B faces, before calibration; a task that the network lacks is None."""

    valence_arousal: "Tensor | None" = None
    """float [B, 2], in [-1, 1] by a tanh."""

    expression: "Tensor | None" = None
    """float [B, C], one column for each label."""

    action_units: "Tensor | None" = None
    """float [B, 12], in the order of ACTION_UNITS."""

    eyes_closed: "Tensor | None" = None
    """float [B, 1]."""

    unit_changes: "Tensor | None" = None
    """float [B, D]: as many as the network's estimator of changes takes. Only differences between faces of one person
    mean something."""


@dataclass(frozen=True)
class AffectTarget:
    """Training targets for a batch of B faces. A mask of 0 takes an entry out of losses and metrics; 1 keeps it."""

    valence_arousal: "Tensor"
    """float [B, 2], in [-1, 1]."""

    valence_arousal_mask: "Tensor"
    """float [B]."""

    expression: "Tensor"
    """float [B, C]; each row is a distribution over the labels."""

    expression_mask: "Tensor"
    """float [B]."""

    action_units: "Tensor"
    """float [B, 12], in [0, 1], in the order of ACTION_UNITS."""

    action_units_mask: "Tensor"
    """float [B, 12]."""


@dataclass(frozen=True)
class Expression:
    """A calibrated distribution over expression labels."""

    label: str
    """The most probable label."""

    probabilities: Mapping[str, float]
    """Probability of each label; they sum to 1."""


@dataclass(frozen=True)
class ActionUnit:
    """The calibrated estimate for one action unit: its presence, not its intensity."""

    probability: float
    """Probability that the unit is present, in [0, 1]."""

    active: bool
    """True if the probability reaches the unit's threshold."""


@dataclass(frozen=True)
class Affect:
    """The calibrated estimates for one face; a task that no network supports is None."""

    valence: float | None = None
    """From unpleasant, -1, to pleasant, 1."""

    arousal: float | None = None
    """From calm, -1, to excited, 1."""

    expression: Expression | None = None

    action_units: Mapping[str, ActionUnit] | None = None
    """By name, in the order of ACTION_UNITS."""

    eyes_closed: ActionUnit | None = None
    """FACS calls closed eyes AU43, and closed for a moment a blink, AU45."""
