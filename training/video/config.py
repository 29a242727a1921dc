"""Configuration of a run on video data: a frozen encoder, its features, and a head with or without memory."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from model_core.affect import LearnedTask
from training.runs.config_file import Section

Smoothing = Literal["none", "causal", "offline"]
"""Smoothing of outputs over time: by past frames, or by past and future ones."""


class VideoData(Section):
    """The videos that a run learns from."""

    dataset: str = "affwild2"
    """A key of `training.datasets.SEQUENCE_READERS`."""
    root: Path
    """Folder of the data set's own files."""
    reader: dict[str, int] = Field(default_factory=dict)
    """Options of the data set's reader, such as DISFA's `present_from`."""
    cache: Path = Path("runs/features")
    """Folder where computed features are kept; runs share it."""
    frame_rate: float = Field(30.0, gt=0)
    """Frames per second of the videos."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the training videos that are not trained on: they choose the epoch, the thresholds and the calibration.

    The validation split is used by evaluation only.
    """
    reference: Literal["annotated", "derived"] = "annotated"
    """Origin of the labels; `derived` for a generated set."""

    @property
    def described(self) -> str:
        """Name of the data set for people; where labels are derived, only its layout is that of `dataset`."""
        return self.dataset if self.reference == "annotated" else f"derived labels in the layout of {self.dataset}"


class ClipConfig(Section):
    """A CLIP image tower; see `model_core.models.clip.ClipSource`."""

    model: str
    """An architecture that open_clip knows (`ViT-B-16`), `hf-hub:OWNER/NAME`, or `local-dir:FOLDER`."""
    weights: str | None = None
    """For an architecture, a pretrained tag (`openai`) or a local file; None for the other kinds of `model`."""
    quick_gelu: bool | None = None
    """True where the weights of a local file were trained with QuickGELU. None: the architecture decides."""
    normalized: bool = False
    """Scale image vectors to length 1; the paper does not."""
    alignment: str = "arcface-1"
    """Alignment of the crops, a key of `alignment.TEMPLATES`."""
    detector: str = "yuface"
    """Face detector that the bundle will be served with."""
    download: bool = False
    """Fetch weights that are absent."""


class EncoderConfig(Section):
    """The frozen encoder: exactly one of `bundle` and `clip`."""

    bundle: str | None = None
    """The backbone of this bundle, a shipped one by name, or a folder."""
    clip: ClipConfig | None = None
    """A CLIP image tower."""

    @model_validator(mode="after")
    def _one(self) -> "EncoderConfig":
        if (self.bundle is None) == (self.clip is None):
            raise ValueError("needs either a bundle or clip")
        return self


class HeadConfig(Section):
    """The part that is trained on the encoder's features."""

    task: LearnedTask
    """The one task of the head."""
    recurrent: int | None = Field(None, ge=1)
    """Width of the LSTM before the head. None: each frame is seen by itself."""
    hidden: int | None = Field(None, ge=1)
    """Width of the head's inner layer. None: the head is linear. A head on CLIP has none."""


class WindowConfig(Section):
    """The sequences that videos are cut into."""

    length: int = Field(10, ge=1)
    """Frames of a sequence."""
    stride: int = Field(10, ge=1)
    """Frames between the starts of two training sequences."""
    state: Literal["carried", "reset"] = "reset"
    """In evaluation and serving, the LSTM's state is reset every `length` frames, or carried on."""
    max_gap_s: float = Field(0.05, gt=0)
    """Longest time in seconds between two consecutive frames of a sequence."""


class SequenceLossConfig(Section):
    """Corrections for rare classes and units."""

    logit_adjustment: float = Field(0.0, ge=0)
    """Factor of the log class shares added to expression logits in training (Menon et al., 2021)."""
    positive_weight: float = Field(1.0, ge=1)
    """Largest weight of a rare action unit's positives; with 1 all weigh the same."""


class SequenceOptimizerConfig(Section):
    """Settings of AdamW and its schedule."""

    rate: float = Field(1e-5, gt=0)
    """Learning rate at the beginning."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    batch_size: int = Field(4, ge=1)
    """Sequences of a step."""
    epochs: int = Field(10, ge=1)
    """Passes over the training sequences."""
    schedule: Literal["constant", "cosine"] = "constant"
    """A constant rate, or cosine decay to 0."""


class SequenceRunConfig(Section):
    """The execution of a run."""

    seed: int = 0
    """Seed of new weights, of the order of sequences, and of the choice of held-out videos."""
    threads: int | None = Field(None, ge=1)
    """PyTorch's CPU threads. None: PyTorch chooses."""


class EvaluationConfig(Section):
    """The treatment of outputs when the run is calibrated and measured."""

    smoothing: Smoothing = "none"
    """Smoothing of the outputs over time, before calibration; in serving the request asks for the same."""


class SequenceConfig(Section):
    """A run on video data."""

    kind: Literal["sequence"] = "sequence"
    data: VideoData
    encoder: EncoderConfig
    network: HeadConfig
    window: WindowConfig = WindowConfig()
    loss: SequenceLossConfig = SequenceLossConfig()
    optimizer: SequenceOptimizerConfig = SequenceOptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: SequenceRunConfig = SequenceRunConfig()

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"run": {"threads"}})
