"""The registry of networks: a NetworkSpec, which a bundle stores, becomes an untrained AffectNetwork."""

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
"""Name -> module class; its forward gives [B, vector_size] for crops of `input_size`, of any size if that is None."""


CLIP = "clip"
"""The backbone that a TowerSpec describes."""


@dataclass(frozen=True)
class NetworkSpec:
    """backbone: a key of BACKBONES, or `clip`. labels: expression labels in output order.

    hidden: width of heads' inner layer. recurrent: width of the LSTM between backbone and heads; None: each frame by
    itself. tower: CLIP's image tower, whose expressions are told by prompts.
    """

    backbone: str
    tasks: tuple[Task, ...]
    labels: tuple[str, ...] = ()
    hidden: int | None = None
    recurrent: int | None = None
    tower: TowerSpec | None = None

    def __post_init__(self) -> None:
        if self.backbone not in (*BACKBONES, CLIP):
            raise ValueError(f"unknown backbone {self.backbone!r}; known: {', '.join((*BACKBONES, CLIP))}")
        if (self.backbone == CLIP) != (self.tower is not None):
            raise ValueError("the backbone clip needs a tower, and no other has one")
        if self.tower and (self.tasks != ("expression",) or self.hidden is not None):
            raise ValueError("prompts tell expressions and nothing else, without a hidden layer")
        if not self.tasks or not set(self.tasks) <= set(TASKS) or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be some of {', '.join(TASKS)}, each once; got {list(self.tasks)}")
        if ("expression" in self.tasks) != bool(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError("an expression task needs labels, each once, and no other task has any")
        if min(width for width in (self.hidden, self.recurrent, 1) if width is not None) < 1:
            raise ValueError("hidden and recurrent must be positive, or None")

    @property
    def widths(self) -> Mapping[Task, int]:
        """Number of outputs of each task that the network has, in the order of TASKS."""
        widths: Mapping[Task, int] = {
            "valence_arousal": 2,
            "expression": len(self.labels),
            "action_units": len(ACTION_UNITS),
        }
        return {task: width for task, width in widths.items() if task in self.tasks}

    @property
    def input_size(self) -> int | None:
        """Side in pixels of the only crops the backbone takes; None: any."""
        return self.tower.input_size if self.tower else BACKBONES[self.backbone].input_size

    @property
    def vector_size(self) -> int:
        """Width of the backbone's vectors."""
        return self.tower.vector_size if self.tower else BACKBONES[self.backbone].vector_size


def build_network(spec: NetworkSpec, backbone: nn.Module | None = None) -> AffectNetwork:
    """An untrained network: random weights, in training mode; around a backbone that is there already, if given.

    Raises what `build_tower` raises for CLIP.
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
