"""Training a head, with or without memory, on a frozen encoder's features of video data."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from model_core.models.heads import AffectNetwork
from training.runs.run import LoopOptions, Run, Stateful
from training.video.batches import SequenceBatch, training_windows
from training.video.config import SequenceConfig
from training.video.encoders import FrozenEncoder
from training.video.objectives import build_objective
from training.video.scoring import headline
from training.video.tracks import Track


@dataclass
class SequenceRun(Run[SequenceBatch]):
    """A run on video data: the heads, and the recurrent encoder if there is one, on features of a frozen encoder.

    Raises ValueError where no training sequence has labels of the task.
    """

    config: SequenceConfig
    encoder: FrozenEncoder
    network: AffectNetwork
    tracks: list[Track]
    """Tracks of the videos that are trained on."""
    held_out: list[Track]
    """Tracks of training videos that are not trained on; their score decides which epoch is kept."""
    folder: Path

    def __post_init__(self) -> None:
        options, task = self.config.optimizer, self.config.network.task
        self._windows = training_windows(self.tracks, task, self.config.window, self.config.data.frame_rate)
        if not self._windows.places:
            raise ValueError(f"no training sequence has labels of {task}")
        steps = math.ceil(len(self._windows.places) / options.batch_size)
        fingerprint = {**self.config.fingerprint(), "encoder.weights": self.encoder.key}
        super().__init__(self.folder, LoopOptions(options.epochs, steps, fingerprint))
        self.spec, self.input = self.encoder.spec, self.encoder.input
        self._trained = nn.ModuleDict({"heads": self.network.heads})
        if self.network.recurrent is not None:
            self._trained["recurrent"] = self.network.recurrent
        self.optimizer = AdamW(self._trained.parameters(), lr=options.rate, weight_decay=options.weight_decay)
        total = steps * options.epochs if options.schedule == "cosine" else None
        self.schedule = LambdaLR(self.optimizer, lambda step: 1.0 if total is None else _cosine(step / total))
        self._objective = build_objective(task, self.tracks, self.config.loss)

    def begin_epoch(self) -> None:
        """Set training mode; the encoder is not run, its features are stored."""
        self._trained.train()

    def batches(self) -> Iterator[SequenceBatch]:
        """Return the epoch's shuffled batches of windows, the last of which may be smaller."""
        seed = (self.config.run.seed, self.progress.epoch)
        return islice(self._windows.batches(self.config.optimizer.batch_size, seed), self.progress.step, None)

    def step(self, batch: SequenceBatch) -> float:
        """Update what is trained once; return the loss of the batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._objective(self.network, batch)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        """Return the network and its measures on the held-out videos. Raises ProtocolError."""
        return self.network, headline(self.network, self.config, self.held_out)

    def provenance(self) -> dict[str, Any]:
        """Return the videos' data set, labels, detector and held-out names, and the configuration."""
        videos = {
            "dataset": self.config.data.described,
            "reference": self.config.data.reference,
            "detector": self.encoder.detector,
            "held_out": sorted({track.sequence.video for track in self.held_out}),
        }
        return {"videos": videos, "config": self.config.fingerprint()}

    def state(self) -> Mapping[str, Stateful]:
        """Return the heads and the recurrent encoder; the frozen encoder is read from where it was."""
        return {"trained": self._trained}


def _cosine(share: float) -> float:
    """Return the factor of the learning rate after this share of the run, from 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))
