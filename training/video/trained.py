"""A trained head on video data, with the tracks to calibrate and measure it on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_core.affect import ACTION_UNITS
from model_core.calibration import Calibration
from model_core.models.heads import AffectNetwork
from training.datasets import build_sequence_reader
from training.datasets.raw import Split
from training.measuring.fitting import ThresholdSearch, fit_axes, fit_expression, fit_unit
from training.runs.checkpoint import CheckpointError, TrainedNetwork, load_trained
from training.runs.config_file import checked
from training.video.config import SequenceConfig
from training.video.encoders import FrozenEncoder
from training.video.features import FeatureCache
from training.video.scoring import outputs_over_time
from training.video.tracks import Track, load_tracks


@dataclass(frozen=True)
class TrainedSequences:
    """The best network of a run on video data."""

    trained: TrainedNetwork
    network: AffectNetwork
    config: SequenceConfig
    root: Path
    """Folder of the data set, which may have been moved since."""

    @property
    def held_out(self) -> list[str]:
        """The names of the training videos that were not trained on."""
        return list(self.trained.training["videos"]["held_out"])

    def cache(self) -> FeatureCache:
        """The features of the network's frozen encoder, where the run kept them."""
        encoder = FrozenEncoder(self.network.backbone, self.trained.spec, self.trained.input, "")
        return FeatureCache(self.config.data.cache, encoder)

    def tracks(self, split: Split) -> list[Track]:
        """Return the tracks of a split; for `train`, those that were held out of training. Raises DatasetError."""
        data = self.config.data
        reader = build_sequence_reader(data.dataset, **data.reader)
        tracks = load_tracks(reader, self.root, self.config.network.task, self.cache(), split)
        return tracks if split != "train" else [track for track in tracks if track.video in self.held_out]


def load_sequences(run: Path, root: Path | None = None) -> TrainedSequences | None:
    """Read a run's best weights; return None for a run on still pictures.

    root: the folder of the data, if it was moved. Raises CheckpointError.
    """
    trained = load_trained(run / "best.pt")
    if not trained.on_videos:
        return None
    config = checked(SequenceConfig, trained.training["config"], str(run))
    return TrainedSequences(trained, trained.build(), config, root or config.data.root)


def fit_sequences(model: TrainedSequences, search: ThresholdSearch = "sorted") -> Calibration:
    """Return the task's calibration, fitted on the held-out videos, on outputs that are smoothed as configured.

    Raises CheckpointError where they have no labels.
    """
    task, tracks = model.config.network.task, model.tracks("train")
    seen = np.concatenate([track.present for track in tracks])
    outputs = np.concatenate(outputs_over_time(model.network, model.config, tracks))
    target = np.concatenate([getattr(track.sequence.targets, task) for track in tracks])
    mask = np.concatenate([getattr(track.sequence.targets, f"{task}_mask") for track in tracks]) > 0
    rows = mask.reshape(len(mask), -1).any(axis=1) & seen
    if not rows.any():
        raise CheckpointError("the held-out videos have no labels to fit on")
    if task == "action_units":
        known = mask & seen[:, None]
        fitted = [
            fit_unit(outputs[known[:, i], i], target[known[:, i], i] >= 0.5, search) for i in range(known.shape[1])
        ]
        return Calibration(action_units=dict(zip(ACTION_UNITS, fitted, strict=True)))
    if task == "expression":
        return Calibration(expression=fit_expression(outputs[rows], target[rows].argmax(axis=1)))
    return Calibration(valence_arousal=fit_axes(outputs[rows], target[rows].astype(np.float64)))
