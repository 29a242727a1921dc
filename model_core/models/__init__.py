"""The registry of networks: `build_network` makes an untrained AffectNetwork from the NetworkSpec of a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from model_core.affect import ACTION_UNITS, TASKS, Task
from model_core.models.clip import TowerSpec, build_tower
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.heads import AffectNetwork, PromptHead, task_head
from model_core.models.local import LocalDDAMFN
from model_core.models.lstm import LSTMEncoder

BACKBONES: Mapping[str, type[DDAMFN] | type[PooledMFN]] = MappingProxyType(
    {"ddamfn": DDAMFN, "ddamfn-local": LocalDDAMFN, "mfn-pooled": PooledMFN}
)
"""Backbone classes by name. Their forward pass maps images, float [B, 3, S, S], to vectors [B, vector_size], where S is
`input_size`, or any size if that is None."""

CLIP = "clip"
"""Name of the backbone that a TowerSpec describes."""


@dataclass(frozen=True)
class NetworkSpec:
    """The architecture of a network. Raises ValueError for fields that do not fit together."""

    backbone: str
    """A key of BACKBONES, or `clip`."""

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

    def __post_init__(self) -> None:
        if self.backbone not in (*BACKBONES, CLIP):
            raise ValueError(f"unknown backbone {self.backbone!r}; known: {', '.join((*BACKBONES, CLIP))}")
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

    @property
    def widths(self) -> Mapping[Task, int]:
        """Number of outputs of each of the network's tasks, in the order of TASKS."""
        widths: Mapping[Task, int] = {
            "valence_arousal": 2,
            "expression": len(self.labels),
            "action_units": len(ACTION_UNITS),
        }
        return {task: width for task, width in widths.items() if task in self.tasks}

    @property
    def input_size(self) -> int | None:
        """Side in pixels of the only crops that the backbone takes; None if it takes any size."""
        return self.tower.input_size if self.tower else BACKBONES[self.backbone].input_size

    @property
    def vector_size(self) -> int:
        """Width of the backbone's vectors."""
        return self.tower.vector_size if self.tower else BACKBONES[self.backbone].vector_size


def build_network(spec: NetworkSpec, backbone: nn.Module | None = None) -> AffectNetwork:
    """Return an untrained network with random weights, in training mode, around a given backbone or a new one.

    Raises as `build_tower` does if it needs a CLIP tower.
    """
    if backbone is None:
        backbone = build_tower(spec.tower) if spec.tower else BACKBONES[spec.backbone]()
    recurrent = None if spec.recurrent is None else LSTMEncoder(spec.vector_size, spec.recurrent)
    width = spec.recurrent or spec.vector_size
    if spec.tower:
        heads: dict[str, nn.Module] = {"expression": PromptHead(width, len(spec.labels), spec.vector_size)}
    else:
        heads = {task: task_head(width, spec.widths[task], spec.hidden) for task in spec.tasks}
    return AffectNetwork(backbone, heads, recurrent)
