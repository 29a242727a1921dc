"""Training the features of a part of the face on rendered faces, by the units and by what else is known of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from model_core.losses import soft_binary_cross_entropy
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.batch_order import BatchOrder
from training.data.batches import Batch, EpochPlan, ahead, training_batches
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.measuring.rendered import pictures_of
from training.measuring.scoring import collect, headline
from training.runs.config import FaceRegionConfig
from training.runs.optim import build_optimizer, build_schedule, take_step
from training.runs.run import LoopOptions, Run, Stateful
from training.runs.training_data import load_training_faces, members, origin
from training.targets.face_region import TOLD, mirrored_where, region_targets


@dataclass
class FaceRegionRun(Run[Batch]):
    """A run of a network for one region, on the CPU by one process."""

    config: FaceRegionConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    seen: NDArray[np.float32]
    """float32 [N, K]: the `region_targets` of all records."""
    folder: Path

    def __post_init__(self) -> None:
        options = self.config.optimizer
        rows = self.faces.indices("train", self.config.data.limit)
        self._rows = rows[self.faces.found[rows]]
        origins = self.faces.origins[self._rows]
        self._order = BatchOrder(origins, self.faces.shares, options.batch_size, self.config.run.seed)
        steps = self._order.steps
        super().__init__(self.folder, LoopOptions(options.epochs, steps, self.config.fingerprint()))
        seen = nn.Linear(self.spec.vector_size, len(TOLD[self.spec.backbone]))
        self._trained = nn.ModuleDict({"network": self.network, "seen": seen})
        self._trained.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self._trained, options)
        self.schedule = build_schedule(self.optimizer, options, steps * options.epochs)

    def begin_epoch(self) -> None:
        """Set training mode."""
        self._trained.train()

    def batches(self) -> Iterator[Batch]:
        """Return the batches from the current step on, prepared in a thread of their own."""
        epoch = self.progress.epoch
        plan = EpochPlan(self._rows[self._order.epoch(epoch)], (self.config.run.seed, epoch), self.progress.step)
        return ahead(training_batches(self.faces, self.input, self.config.augmentation, plan))

    def step(self, batch: Batch) -> float:
        """Update the weights once; return the loss of the batch."""
        return take_step(self._loss(batch), self._trained, self.optimizer, self.schedule, self.config.optimizer)

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.run.precision == "bfloat16"):
            vectors = self.network.backbone(batch.images).float()
        units = self.network.forward_vectors(vectors).action_units
        assert units is not None
        loss = soft_binary_cross_entropy(units, batch.target.action_units, batch.target.action_units_mask)
        seen = torch.from_numpy(mirrored_where(self.spec.backbone, self.seen[batch.rows], batch.mirrored))
        return loss + self.config.loss.seen * F.mse_loss(self._trained["seen"](vectors), seen)

    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        """Return the network and its measures on the validation faces."""
        rows = self.faces.indices("validation", self.config.data.limit)
        return self.network, headline(
            self.faces, rows, collect(self.network, self.faces, rows, self.input, torch.device("cpu"))
        )

    def provenance(self) -> dict[str, Any]:
        """Return how the sets were prepared, and the configuration."""
        return {**origin(self.faces), "config": self.config.fingerprint()}

    def state(self) -> Mapping[str, Stateful]:
        """Return the network and the head of what else is known."""
        return {"trained": self._trained}


def build_face_region_run(config: FaceRegionConfig, folder: Path) -> FaceRegionRun:
    """Return a seeded run in its folder. Raises DatasetError, also where a set is not of rendered faces, ValueError."""
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    faces = load_training_faces(config.data)
    spec = NetworkSpec(config.kind, ("action_units",))
    parts = []
    for prepared, member in members(config.data, faces):
        if not member.info.rendered:
            raise DatasetError(f"{prepared} does not hold rendered faces, of which it is known what moves")
        parts.append(region_targets(config.kind, pictures_of(prepared, member.names)))
    folder.mkdir(parents=True, exist_ok=True)
    seen_as = InputSpec(alignment=faces.info.alignment, **config.input.model_dump())
    return FaceRegionRun(config, faces, spec, seen_as, build_network(spec), np.concatenate(parts), folder)
