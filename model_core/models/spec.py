"""The architecture of a network as a bundle records it. Nothing here needs torch; `registry` builds the networks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from model_core.affect import ACTION_UNITS, LEARNED_TASKS, TASKS, Task


@dataclass(frozen=True)
class BackboneShape:
    """The sizes of a backbone's input and output."""

    vector_size: int
    """Width of its vectors."""

    input_size: int | None
    """Side in pixels of the only crops that it takes; None if it takes any size."""


BACKBONE_SHAPES: Mapping[str, BackboneShape] = MappingProxyType(
    {
        "ddamfn": BackboneShape(512, 112),
        "ddamfn-local": BackboneShape(896, 112),
        "ddamfn-local-eyes": BackboneShape(1088, 112),
        "ddamfn-local-regions": BackboneShape(1184, 112),
        "eye-region": BackboneShape(192, 112),
        "mfn-pooled": BackboneShape(512, None),
        "mouth-region": BackboneShape(96, 112),
    }
)
"""The backbones, by name, of which `registry.BACKBONES` has the classes."""

CLIP = "clip"
"""Name of the backbone that a TowerSpec describes."""

PROMPT_TEMPERATURE = 0.07
"""Temperature of the contrastive loss that prompt heads are trained with (arXiv 2503.12260, the CLIP systems)."""


@dataclass(frozen=True)
class TowerSpec:
    """The architecture of an image tower, and the scale of its vectors."""

    vision: Mapping[str, Any]
    """open_clip's `vision_cfg`."""

    vector_size: int
    """Width of the tower's vectors."""

    quick_gelu: bool
    """True if the tower has QuickGELU. Weights only fit the activation that they were trained with."""

    normalized: bool = True
    """True if vectors are scaled to length 1. Bundles that do not say were trained on normalized vectors."""

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        size = self.vision["image_size"]
        return int(size if isinstance(size, int) else size[0])


@dataclass(frozen=True)
class EstimatorSpec:
    """The layers that tell the movements of the twelve units by a difference of outputs of `unit_changes`.

    Raises ValueError for a width below 1.
    """

    outputs: int
    """Number of outputs of `unit_changes`."""

    hidden: int
    """Width of the hidden layer."""

    def __post_init__(self) -> None:
        if min(self.outputs, self.hidden) < 1:
            raise ValueError("the widths of an estimator of changes must be positive")


@dataclass(frozen=True)
class NetworkSpec:
    """The architecture of a network. Raises ValueError for fields that do not fit together."""

    backbone: str
    """A key of BACKBONE_SHAPES, or `clip`."""

    tasks: tuple[Task, ...]
    """The tasks that have a head."""

    labels: tuple[str, ...] = ()
    """Expression labels in the order of the outputs; empty without the task."""

    hidden: int | None = None
    """Width of the heads' hidden layer; None for linear heads."""

    recurrent: int | None = None
    """Width of the LSTM between backbone and heads; None for a framewise network."""

    tower: TowerSpec | None = None
    """The image tower of the backbone `clip`, whose expression head compares images with prompts."""

    estimator: EstimatorSpec | None = None
    """What the outputs of `unit_changes` are compared by; None without that task."""

    def __post_init__(self) -> None:
        if self.backbone not in (*BACKBONE_SHAPES, CLIP):
            raise ValueError(f"unknown backbone {self.backbone!r}; known: {', '.join((*BACKBONE_SHAPES, CLIP))}")
        if (self.backbone == CLIP) != (self.tower is not None):
            raise ValueError("the backbone clip needs a tower, and no other backbone has one")
        if self.tower and (self.tasks != ("expression",) or self.hidden is not None):
            raise ValueError("the backbone clip supports the expression task only, without a hidden layer")
        if not self.tasks or not set(self.tasks) <= set(TASKS) or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be some of {', '.join(TASKS)}, each once; got {list(self.tasks)}")
        if ("expression" in self.tasks) != bool(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError("the expression task needs labels, each once, and no other task has any")
        if min(width for width in (self.hidden, self.recurrent, 1) if width is not None) < 1:
            raise ValueError("hidden and recurrent must be positive, or None")
        if (self.estimator is None) != ("unit_changes" not in self.tasks):
            raise ValueError("the task unit_changes needs an estimator, and no other task has one")

    @property
    def learned(self) -> "NetworkSpec":
        """The same network without what is only read off it (LEARNED_TASKS)."""
        return replace(self, tasks=tuple(task for task in self.tasks if task in LEARNED_TASKS), estimator=None)

    @property
    def widths(self) -> Mapping[Task, int]:
        """Number of outputs of each of the network's tasks, in the order of TASKS."""
        widths: Mapping[Task, int] = {
            "valence_arousal": 2,
            "expression": len(self.labels),
            "action_units": len(ACTION_UNITS),
            "eyes_closed": 1,
            "unit_changes": self.estimator.outputs if self.estimator else 0,
        }
        return {task: width for task, width in widths.items() if task in self.tasks}

    @property
    def input_size(self) -> int | None:
        """Side in pixels of the only crops that the backbone takes; None if it takes any size."""
        return self.tower.input_size if self.tower else BACKBONE_SHAPES[self.backbone].input_size

    @property
    def vector_size(self) -> int:
        """Width of the backbone's vectors."""
        return self.tower.vector_size if self.tower else BACKBONE_SHAPES[self.backbone].vector_size
