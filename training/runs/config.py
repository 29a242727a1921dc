"""Configurations of training runs on still pictures: of a whole network, and of local features beside a frozen one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from model_core.affect import ACTION_UNITS, LEARNED_TASKS, LearnedTask
from model_core.inference.runtimes import Engine
from model_core.losses import LossWeights
from model_core.models.face_regions import FaceRegion
from model_core.models.registry import BACKBONES
from training.data.augmentation import Augmentation
from training.runs.config_file import Section, checked, read_values
from training.targets.auxiliary import AuxiliaryLoss

Precision = Literal["float32", "bfloat16", "float16"]
"""Number format of the arithmetic: float32, or autocast to a shorter one."""

CPUPrecision = Literal["float32", "bfloat16"]
"""The number formats that run on a CPU."""


class SetConfig(Section):
    """One of several prepared sets that a run learns from."""

    prepared: Path
    """Folder made by `training.prepare`; its last part names the set in the log."""
    share: float = Field(1.0, gt=0)
    """Its share of each batch, relative to the shares of the other sets."""
    tasks: tuple[LearnedTask, ...] = Field(LEARNED_TASKS, min_length=1)
    """The tasks that are learned from it, where it has targets for them."""
    trusted_units: tuple[Literal[tuple(ACTION_UNITS)], ...] = tuple(ACTION_UNITS)  # type: ignore[valid-type]
    """The action units that are learned from it."""
    neutral_at_rest: bool = False
    """Where at least 0.7 of the votes are neutral, the units that are not trusted are learned as absent."""
    resting_factor: float = Field(1.0, ge=0, le=1)
    """Where at least 0.7 of the votes are neutral, the targets of trusted units are multiplied by this."""
    balance: float = Field(0.0, ge=0, le=1)
    """0: all its faces count the same for expressions; 1: all labels together do, however rare they are."""
    taught: bool = False
    """True: its faces teach the answers of `teacher`, and their own targets are for validation and calibration only."""

    @model_validator(mode="after")
    def _options_of_targets(self) -> Self:
        if self.balance and (self.taught or "expression" not in self.tasks):
            raise ValueError("balance weighs targets of expressions, which this set does not teach")
        if (self.neutral_at_rest or self.resting_factor < 1) and "action_units" not in self.tasks:
            raise ValueError(
                "neutral_at_rest and resting_factor change targets of units, which this set does not teach"
            )
        return self


class DataConfig(Section):
    """The prepared sets that a run learns from: `prepared`, or several `sets`."""

    prepared: Path | None = None
    """Folder made by `training.prepare`. None: `sets` has the folders."""
    sets: tuple[SetConfig, ...] = ()
    """Sets that are mixed in each batch. An epoch is one pass over the first."""
    limit: int | None = Field(None, ge=1)
    """Use only the first faces of each split of each set, for a quick try. None: all of them."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.prepared is None) != bool(self.sets):
            raise ValueError("give either prepared, or sets")
        return self

    @model_serializer(mode="wrap")
    def _without_sets(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `sets` where there are none, so that runs from before there were any can be resumed."""
        values: dict[str, Any] = serialize(self)
        return values if self.sets else {name: value for name, value in values.items() if name != "sets"}


class InputConfig(Section):
    """The network's InputSpec, except for the alignment, which the prepared set determines."""

    size: int = Field(112, ge=16)
    """Side of the network's input in pixels."""
    colour: Literal["rgb", "grey"] = "grey"
    """Colours the network sees; grey is repeated over the three channels."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from pixel values in [0, 1], by channel."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Divides what is left, by channel."""
    with_mirror_image: bool = False
    """True: answers are averaged with those to mirror images, which takes twice the time. It changes no weights."""
    oriented: bool = False
    """True: faces are mirrored that are brighter on the right, in training as in serving (see InputSpec)."""


class NetworkConfig(Section):
    """The network to train."""

    backbone: Literal[tuple(BACKBONES)]  # type: ignore[valid-type]
    """A key of `model_core.models.registry.BACKBONES`."""
    tasks: tuple[LearnedTask, ...] = LEARNED_TASKS
    """The tasks that get a head."""
    hidden: int | None = None
    """Width of the heads' inner layer. None: each head is linear."""
    start_from: Path | None = None
    """Source of the first weights: a run's `best.pt`, a bundle's folder, or a `trunk.pt`. None: new weights."""
    start_share: float = Field(0.0, ge=0, lt=1)
    """Share of the first weights in those that are validated and saved; the others are those that were trained."""
    frozen: tuple[str, ...] = ()
    """Substrings of the names of parameters to freeze; their gradients are not computed."""

    @model_validator(mode="after")
    def _start(self) -> Self:
        if self.start_share and self.start_from is None:
            raise ValueError("network.start_share needs network.start_from")
        return self


class TeacherConfig(Section):
    """A trained network whose answers another one learns, with `loss.vector` its vectors, too."""

    network: Path
    """Folder of a run or a bundle with the same backbone."""
    engine: Engine = "torch"
    """Engine that computes its answers."""
    precision: CPUPrecision = "float32"
    """Number format of their arithmetic."""


class StepsConfig(Section):
    """Settings of AdamW, and of its schedule: linear warm-up, then cosine decay to 0."""

    rate: float = Field(2e-3, gt=0)
    """Learning rate at the end of the warm-up."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay; norms, biases and PReLU slopes have none."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of all steps over which the rate rises."""
    batch_size: int = Field(128, ge=2)
    """Faces of a step, over all processes."""
    epochs: int = Field(5, ge=1)
    """Passes over the training faces."""
    gradient_norm: float = Field(5.0, gt=0)
    """Largest norm of a step's gradient; a longer one is scaled down to it."""


class OptimizerConfig(StepsConfig):
    """Settings that a run of a whole network has beside StepsConfig's."""

    trunk_factor: float = Field(1.0, ge=0)
    """Scales the learning rate of `backbone.features`."""
    accumulate: int = Field(1, ge=1)
    """Parts into which each process divides its share of a batch, to save memory."""
    repeated: int = Field(0, ge=0)
    """This many faces of a step are seen a second time in it, mirrored; `loss.consistency` compares the answers."""
    compared: int = Field(0, ge=0)
    """With so many rendered faces of a step the same people at rest are seen; `loss.change` compares the units."""
    average_decay: float = Field(0.998, gt=0, lt=1)
    """Decay per step of the weights' exponential moving average, which remembers about 1 / (1 - decay) steps."""
    fixed_norm_epochs: int = Field(0, ge=0)
    """This many last epochs continue from the averaged network with its batch norms fixed."""


class RunConfig(Section):
    """The execution of a run of a whole network."""

    seed: int = 0
    """Seed of new weights, of the order of faces, and of their augmentation."""
    precision: Precision = "float32"
    """Number format of the backbone's arithmetic; float16 needs a GPU."""
    save_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(20, ge=1)
    """Steps between points of TensorBoard's training curves."""
    compile: bool = False
    """Compile the backbone for the training step (torch.compile)."""
    threads: int | None = Field(None, ge=1)
    """PyTorch's CPU threads. None: PyTorch chooses."""


class TrainConfig(Section):
    """A run that trains a whole network on still pictures."""

    kind: Literal["network"] = "network"
    data: DataConfig
    network: NetworkConfig
    input: InputConfig = InputConfig()
    teacher: TeacherConfig | None = None
    loss: LossWeights = LossWeights()
    augmentation: Augmentation = Augmentation()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _teacher_and_pupils(self) -> Self:
        if (self.teacher is None) == any(each.taught for each in self.data.sets):
            raise ValueError("a teacher needs sets that are taught, and these need a teacher")
        if self.loss.vector and self.teacher is None:
            raise ValueError("loss.vector needs a teacher")
        return self

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if bool(self.loss.change) != bool(self.optimizer.compared):
            raise ValueError("loss.change needs optimizer.compared, and the other way round")
        if self.optimizer.compared and self.optimizer.accumulate > 1:
            raise ValueError("optimizer.compared adds faces to a step, which then has no equal parts to accumulate")
        if self.optimizer.compared and "action_units" not in self.network.tasks:
            raise ValueError("loss.change compares action units, which network.tasks leaves out")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        hidden = {"compile", "threads", "save_every", "log_every"}
        return self.model_dump(mode="json", exclude={"run": hidden, "teacher": {"engine"}})


class ViewsConfig(Section):
    """The views of each face for which the frozen part of the network is computed once."""

    train: int = Field(3, ge=1)
    """Views of each training face, the first of them not augmented; epochs take them in turn."""
    engine: Engine = "torch"
    """Engine that computes them."""
    precision: CPUPrecision = "float32"
    """Number format of their arithmetic."""


class LocalNetworkConfig(Section):
    """The network that local features are added to."""

    start_from: Path
    """Folder of a run or a bundle whose DDAMFN is frozen."""
    eyes_from: Path | None = None
    """Folder of a run of an `eye-region`, whose frozen features are added to the network. None: none are added."""
    mouth_from: Path | None = None
    """The same of a `mouth-region`, which is added behind the features of the eye region."""
    with_mirror_image: bool = False
    """See InputConfig."""
    start_share: float = Field(0.0, ge=0, lt=1)
    """See NetworkConfig."""
    frozen: tuple[str, ...] = ()
    """Names, or parts of them, of parameters of local features and heads that stay as `start_from` has them."""
    mean_of_epochs: bool = False
    """True: the trained weights are the mean of those after each epoch so far that saw the faces as they are."""


class LocalLoss(Section):
    """Weights of the terms of the loss."""

    expression: float = 1.0
    """Weight of the soft cross-entropy."""
    valence_arousal: float = 1.0
    """Weight of 1 - CCC."""
    action_units: float = 2.0
    """Weight of the soft binary cross-entropy."""
    unit_error: float = 0.6
    """Weight of the action units' `relative_squared_error`."""
    change: float = Field(0.0, ge=0)
    """Weight of the `change_loss` of rendered faces, which are compared with the same person at rest."""
    change_head: float = Field(0.0, ge=0)
    """Weight of the cross-entropy of changes as a head of its own tells them, which is dropped when the network is
    saved: `training.changes` fits such a head to the finished network."""


class LocalRunConfig(Section):
    """The execution of a run of local features, or of those of a region."""

    seed: int = 0
    """Seed of new weights, of the order of faces, and of their views."""
    precision: CPUPrecision = "float32"
    """Number format of the features' arithmetic."""
    threads: int | None = Field(None, ge=1)
    """PyTorch's CPU threads. None: PyTorch chooses."""


class LocalConfig(Section):
    """A run that adds local features to a trained DDAMFN, and trains only them and the heads."""

    kind: Literal["local"] = "local"
    data: DataConfig
    network: LocalNetworkConfig
    views: ViewsConfig
    loss: LocalLoss = LocalLoss()
    auxiliary: AuxiliaryLoss = AuxiliaryLoss()
    augmentation: Augmentation = Augmentation()
    optimizer: StepsConfig = StepsConfig()
    run: LocalRunConfig = LocalRunConfig()

    @model_validator(mode="after")
    def _no_pupils(self) -> Self:
        if any(each.taught for each in self.data.sets):
            raise ValueError("sets that are taught need a teacher, which a run of local features does not have")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"run": {"threads"}, "views": {"engine"}})


class FaceRegionLoss(Section):
    """Weights of the terms of the loss beside the units' cross-entropy."""

    seen: float = Field(0.3, ge=0)
    """Weight of the squared errors of what else is known of the region (training/targets/face_region.py)."""


class FaceRegionConfig(Section):
    """A run that trains the features of a part of the face on rendered faces."""

    kind: Literal["eye-region", "mouth-region"]
    """The backbone."""
    data: DataConfig
    input: InputConfig = InputConfig()
    loss: FaceRegionLoss = FaceRegionLoss()
    augmentation: Augmentation = Augmentation()
    optimizer: StepsConfig = StepsConfig()
    run: LocalRunConfig = LocalRunConfig()

    @model_validator(mode="after")
    def _faces(self) -> Self:
        if any(each.taught for each in self.data.sets):
            raise ValueError("sets that are taught need a teacher, which a run of a region does not have")
        if self.input.size != FaceRegion.input_size or self.input.oriented:
            raise ValueError(f"a region is read from crops of {FaceRegion.input_size} pixels that are not oriented")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"run": {"threads"}})


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration of a run of a whole network; see `read_values`. Raises ConfigError."""
    return checked(TrainConfig, read_values(path, overrides), str(path))
