"""Configuration of a run on video data: a frozen encoder, its features, and a head with or without memory."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from model_core.affect import Task
from training.runs.config_file import Section

Smoothing = Literal["none", "causal", "offline"]


class VideoData(Section):
    """dataset: a name of SEQUENCE_READERS, its tree under `root`. reader: its options, such as DISFA's `present_from`.

    cache: folder of features. held_out: share of the training videos that choose the epoch, the thresholds and the
    calibration; the validation split is only looked at by evaluation. frame_rate: of the videos. reference: where the
    labels come from; `derived` for a generated set.
    """

    dataset: str = "affwild2"
    root: Path
    reader: dict[str, int] = Field(default_factory=dict)
    cache: Path = Path("runs/features")
    frame_rate: float = Field(30.0, gt=0)
    held_out: float = Field(0.2, gt=0, lt=1)
    reference: Literal["annotated", "derived"] = "annotated"

    @property
    def described(self) -> str:
        """The data set, for people; where labels are derived, the name is of its layout only."""
        return self.dataset if self.reference == "annotated" else f"derived labels in the layout of {self.dataset}"


class ClipConfig(Section):
    """See ClipSource. alignment: of the crops; a key of `alignment.TEMPLATES`. download: fetch weights that are absent.

    detector: what the bundle will be served with. normalized: scale image vectors to length 1; the paper does not.
    """

    model: str
    weights: str | None = None
    quick_gelu: bool | None = None
    normalized: bool = False
    alignment: str = "arcface-1"
    detector: str = "yuface"
    download: bool = False


class EncoderConfig(Section):
    """One of: the backbone of a bundle (a shipped one by name, or a folder), or a CLIP image tower."""

    bundle: str | None = None
    clip: ClipConfig | None = None

    @model_validator(mode="after")
    def _one(self) -> "EncoderConfig":
        if (self.bundle is None) == (self.clip is None):
            raise ValueError("needs either a bundle or clip")
        return self


class HeadConfig(Section):
    """task: what the head tells. recurrent: width of the LSTM before it; without one, each frame is seen by itself.

    hidden: width of the head's inner layer. CLIP has none.
    """

    task: Task
    recurrent: int | None = Field(None, ge=1)
    hidden: int | None = Field(None, ge=1)


class WindowConfig(Section):
    """length: frames of a sequence. stride: frames between the starts of two training sequences.

    state: in evaluation and serving, `reset` every `length` frames, or `carried` on. max_gap_s: the longest time
    between two frames that follow each other in a sequence.
    """

    length: int = Field(10, ge=1)
    stride: int = Field(10, ge=1)
    state: Literal["carried", "reset"] = "reset"
    max_gap_s: float = Field(0.05, gt=0)


class SequenceLossConfig(Section):
    """logit_adjustment: factor of the log class shares added to expression logits in training (Menon et al., 2021).

    positive_weight: the most that a rare action unit's positives may weigh; 1: all alike.
    """

    logit_adjustment: float = Field(0.0, ge=0)
    positive_weight: float = Field(1.0, ge=1)


class SequenceOptimizerConfig(Section):
    """Adam with decoupled weight decay; batch_size in sequences. schedule: `constant`, or `cosine` down to nothing."""

    rate: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(4, ge=1)
    epochs: int = Field(10, ge=1)
    schedule: Literal["constant", "cosine"] = "constant"


class SequenceRunConfig(Section):
    """seed: of weights, order and the held-out videos."""

    seed: int = 0
    threads: int | None = Field(None, ge=1)


class EvaluationConfig(Section):
    """smoothing: of the outputs over time, before calibration; in serving the request asks for the same."""

    smoothing: Smoothing = "none"


class SequenceConfig(Section):
    """A whole run on video data."""

    data: VideoData
    encoder: EncoderConfig
    network: HeadConfig
    window: WindowConfig = WindowConfig()
    loss: SequenceLossConfig = SequenceLossConfig()
    optimizer: SequenceOptimizerConfig = SequenceOptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: SequenceRunConfig = SequenceRunConfig()
