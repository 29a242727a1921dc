"""The configuration of a training run on still pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model_core.affect import Task
from model_core.inference.runtimes import Engine
from model_core.losses import LossWeights
from model_core.models import BACKBONES
from training.data.augmentation import Augmentation
from training.runs.config_file import Section, checked, read_values

Precision = Literal["float32", "bfloat16", "float16"]
"""Of arithmetic: float32, or autocast to a shorter format."""


CPUPrecision = Literal["float32", "bfloat16"]
"""The same, on a CPU."""


class DataConfig(Section):
    """prepared: folder made by `training.prepare`. limit: use only the first faces of each split, for a quick try."""

    prepared: Path
    limit: int | None = Field(None, ge=1)


class InputConfig(Section):
    """The network's InputSpec but for the alignment, which the prepared set brings."""

    size: int = Field(112, ge=16)
    colour: Literal["rgb", "grey"] = "grey"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)


class NetworkConfig(Section):
    """backbone: a key of BACKBONES. start_from: a run's `best.pt`, a bundle's folder, or a `trunk.pt`.

    frozen: parts of parameters' names; what is called so stays as it is, which also saves the time of its gradient.
    """

    backbone: Literal[tuple(BACKBONES)]  # type: ignore[valid-type]
    tasks: tuple[Task, ...] = ("valence_arousal", "expression", "action_units")
    hidden: int | None = None
    start_from: Path | None = None
    frozen: tuple[str, ...] = ()


class StepsConfig(Section):
    """AdamW with linear warm-up and cosine decay. batch_size: faces of a step."""

    rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    batch_size: int = Field(128, ge=2)
    epochs: int = Field(5, ge=1)
    gradient_norm: float = Field(5.0, gt=0)


class OptimizerConfig(StepsConfig):
    """trunk_factor scales the rate of `backbone.features`. batch_size is over all processes.

    accumulate: parts in which a process takes its share of a batch. fixed_norm_epochs: that many last epochs go on from
    the averaged network with its batch norms fixed.
    """

    trunk_factor: float = Field(1.0, ge=0)
    accumulate: int = Field(1, ge=1)
    fixed_norm_epochs: int = Field(0, ge=0)


class RunConfig(Section):
    """save_every: steps between checkpoints. log_every: steps between points of TensorBoard's training curves.

    compile: torch.compile for the training step. precision: of the backbone's arithmetic; float16 on GPUs only.
    """

    seed: int = 0
    precision: Precision = "float32"
    save_every: int = Field(100, ge=1)
    log_every: int = Field(20, ge=1)
    compile: bool = False
    threads: int | None = Field(None, ge=1)


class TrainConfig(Section):
    """A run that trains a whole network on still pictures."""

    kind: Literal["network"] = "network"
    data: DataConfig
    network: NetworkConfig
    input: InputConfig = InputConfig()
    loss: LossWeights = LossWeights()
    augmentation: Augmentation = Augmentation()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"run": {"compile", "threads", "save_every", "log_every"}})


class ViewsConfig(Section):
    """What is computed once by the part that stays as it is.

    train: views of each training face, the first unchanged; epochs take them in turn. engine: what computes them, in
    arithmetic of which precision.
    """

    train: int = Field(3, ge=1)
    engine: Engine = "torch"
    precision: CPUPrecision = "float32"


class LocalNetworkConfig(Section):
    """start_from: the folder of a run or a bundle, whose DDAMFN stays as it is."""

    start_from: Path


class AuxiliaryLoss(Section):
    """Weights of what the teacher read beside the tasks' targets (`auxiliary.py`); with both 0 it is not learned."""

    blendshapes: float = Field(0.0, ge=0)
    shape: float = Field(0.0, ge=0)


class LocalLoss(Section):
    """Weights of the terms; unit_error is that of action units' `relative_squared_error`."""

    expression: float = 1.0
    valence_arousal: float = 1.0
    action_units: float = 2.0
    unit_error: float = 0.6


class LocalRunConfig(Section):
    """seed: of new weights, order and views. precision: of the local features' arithmetic."""

    seed: int = 0
    precision: CPUPrecision = "float32"
    threads: int | None = Field(None, ge=1)


class LocalConfig(Section):
    """A run that adds local features to a trained DDAMFN, and trains them and the heads only."""

    kind: Literal["local"] = "local"
    data: DataConfig
    network: LocalNetworkConfig
    views: ViewsConfig
    loss: LocalLoss = LocalLoss()
    auxiliary: AuxiliaryLoss = AuxiliaryLoss()
    augmentation: Augmentation = Augmentation()
    optimizer: StepsConfig = StepsConfig()
    run: LocalRunConfig = LocalRunConfig()

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"run": {"threads"}, "views": {"engine"}})


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration of a run on still pictures; see `read_values`. Raises ConfigError."""
    return checked(TrainConfig, read_values(path, overrides), str(path))
