"""The registry of networks: a NetworkSpec, which a bundle stores, becomes an untrained AffectNetwork."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from model_core.affect import ACTION_UNITS, TASKS, Task
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.heads import AffectNetwork, task_head

BACKBONES: Mapping[str, type[DDAMFN] | type[PooledMFN]] = MappingProxyType({"ddamfn": DDAMFN, "mfn-pooled": PooledMFN})
"""Name -> module class; its forward gives [B, vector_size] for crops of `input_size`, of any size if that is None."""


@dataclass(frozen=True)
class NetworkSpec:
    """backbone: a key of BACKBONES. labels: expression labels in output order. hidden: width of heads' inner layer."""

    backbone: str
    tasks: tuple[Task, ...]
    labels: tuple[str, ...] = ()
    hidden: int | None = None

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {self.backbone!r}; known: {', '.join(BACKBONES)}")
        if not self.tasks or not set(self.tasks) <= set(TASKS) or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be some of {', '.join(TASKS)}, each once; got {list(self.tasks)}")
        if ("expression" in self.tasks) != bool(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError("an expression task needs labels, each once, and no other task has any")
        if self.hidden is not None and self.hidden < 1:
            raise ValueError("hidden must be positive, or None")

    @property
    def widths(self) -> Mapping[Task, int]:
        """Number of outputs of each task that the network has, in the order of TASKS."""
        widths: Mapping[Task, int] = {
            "valence_arousal": 2,
            "expression": len(self.labels),
            "action_units": len(ACTION_UNITS),
        }
        return {task: width for task, width in widths.items() if task in self.tasks}


def build_network(spec: NetworkSpec) -> AffectNetwork:
    """An untrained network: random weights, in training mode."""
    backbone = BACKBONES[spec.backbone]()
    heads: dict[str, nn.Module] = {
        task: task_head(backbone.vector_size, spec.widths[task], spec.hidden) for task in spec.tasks
    }
    return AffectNetwork(backbone, heads)
