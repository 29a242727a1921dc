"""Training a head, with or without memory, on a frozen encoder's features of video data."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from model_core.models.heads import AffectNetwork
from training.runs.checkpoint import (
    Progress,
    TrainedNetwork,
    load_plain,
    other_configuration,
    save_atomically,
    save_trained,
)
from training.runs.run_log import RunLog
from training.video.batches import training_windows
from training.video.config import SequenceConfig
from training.video.encoders import FrozenEncoder
from training.video.objectives import build_objective
from training.video.scoring import headline
from training.video.tracks import Track


@dataclass
class SequenceRun:
    """One run in its folder: `last.pt` to resume after an epoch, `best.pt` to use, `log.jsonl` with a line an epoch.

    held_out: tracks of training videos that are not trained on; their score decides which epoch is kept.
    """

    config: SequenceConfig
    encoder: FrozenEncoder
    network: AffectNetwork
    tracks: list[Track]
    held_out: list[Track]
    folder: Path
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        options, task = self.config.optimizer, self.config.network.task
        self._windows = training_windows(self.tracks, task, self.config.window, self.config.data.frame_rate)
        if not self._windows.places:
            raise ValueError(f"no training sequence has labels of {task}")
        steps = math.ceil(len(self._windows.places) / options.batch_size)
        self._trained = nn.ModuleDict({"heads": self.network.heads})
        if self.network.recurrent is not None:
            self._trained["recurrent"] = self.network.recurrent
        self._optimizer = AdamW(self._trained.parameters(), lr=options.rate, weight_decay=options.weight_decay)
        total = steps * options.epochs if options.schedule == "cosine" else None
        self._schedule = LambdaLR(self._optimizer, lambda step: 1.0 if total is None else _cosine(step / total))
        self._objective = build_objective(task, self.tracks, self.config.loss)
        self._log = RunLog(self.folder, every=1)

    def resume(self) -> bool:
        """Go on from `last.pt` if there is one; raises CheckpointError where it belongs to another configuration."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = load_plain(path)
        made = {**json.loads(state.get("config", "{}")), "encoder.weights": state.get("encoder")}
        ours = {**json.loads(self._fingerprint()), "encoder.weights": self.encoder.key}
        if made != ours:
            raise other_configuration(path, made, ours)
        self._trained.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**json.loads(state["progress"]))
        return True

    def run(self) -> None:
        """Train to the last epoch."""
        for _ in tqdm(range(self.progress.epoch, self.config.optimizer.epochs), desc="epochs"):
            self._finish_epoch(self._train_epoch())

    def _train_epoch(self) -> float:
        self._trained.train()
        losses = []
        seed = (self.config.run.seed, self.progress.epoch)
        for batch in self._windows.batches(self.config.optimizer.batch_size, seed):
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._objective(self.network, batch)
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _finish_epoch(self, loss: float) -> None:
        progress = self.progress
        measures = headline(self.network, self.config, self.held_out)
        record = {"epoch": progress.epoch + 1, "loss": loss, **measures}
        progress.history.append(record)
        self._log.epoch(progress.epoch + 1, progress.history)
        if measures["score"] > progress.best_score:
            progress.best_score = measures["score"]
            weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            trained = TrainedNetwork(self.encoder.spec, self.encoder.input, weights, self._description(record))
            save_trained(trained, self.folder / "best.pt")
        progress.epoch += 1
        state = {
            "config": self._fingerprint(),
            "encoder": self.encoder.key,
            "network": self._trained.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "progress": json.dumps(vars(progress)),
        }
        save_atomically(state, self.folder / "last.pt")

    def _description(self, measures: Mapping[str, float]) -> dict[str, Any]:
        return {
            "videos": {
                "dataset": self.config.data.described,
                "reference": self.config.data.reference,
                "detector": self.encoder.detector,
                "held_out": sorted({track.sequence.video for track in self.held_out}),
            },
            "config": json.loads(self._fingerprint()),
            "validation": dict(measures),
        }

    def _fingerprint(self) -> str:
        return self.config.model_dump_json(exclude={"run": {"threads"}})


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
