"""Training local features, and the heads on them, beside a trained DDAMFN that stays as it is.

What stays is computed once, in a few views of each face (`maps.py`), so that an epoch takes seconds instead of the
better part of an hour.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model_core.affect import TASKS
from model_core.losses import LossWeights
from model_core.models import NetworkSpec, build_network
from model_core.models.ddamfn import DDAMFN, VECTOR_SIZE
from model_core.models.heads import AffectNetwork
from model_core.models.local import LOCAL_SIZE, LocalDDAMFN
from model_core.preprocessing import InputSpec
from training.data.batches import targets, unit_variance
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets.raw import Split
from training.measuring.scoring import Outputs, headline
from training.runs.checkpoint import (
    CheckpointError,
    Progress,
    TrainedNetwork,
    load_plain,
    other_configuration,
    save_atomically,
    save_trained,
)
from training.runs.config import LocalConfig
from training.runs.maps import Rows, open_store, vectors_of
from training.runs.optim import build_optimizer, build_schedule
from training.runs.run_log import RunLog
from training.runs.start import continue_from
from training.runs.step import total_loss
from training.runs.trained import load_evaluable, require_match, require_targets
from training.targets.auxiliary import OUTPUTS, AuxiliaryTargets, auxiliary_targets


@dataclass(frozen=True)
class StoredFaces:
    """indices: int64 [N], found records. views: the rows [N, D] of each. mirrored: bool [N] for each view."""

    indices: NDArray[np.int64]
    views: list[Rows]
    mirrored: list[NDArray[np.bool_]]


@dataclass
class LocalRun:
    """One run in its folder: `last.pt` to resume after an epoch, `best.pt` to use, `log.jsonl` with a line an epoch."""

    config: LocalConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    train: StoredFaces
    validation: StoredFaces
    auxiliary: AuxiliaryTargets | None
    folder: Path
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        options, count = self.config.optimizer, len(self.train.indices)
        self._steps = count // options.batch_size
        if not self._steps:
            raise ValueError(f"{count} training faces do not fill one batch of {options.batch_size}")
        self._trained = nn.ModuleDict({"local": self._backbone.local, "heads": self.network.heads})
        if self.auxiliary is not None:
            self._trained["auxiliary"] = nn.Linear(LOCAL_SIZE, OUTPUTS)
        self._optimizer = build_optimizer(self._trained, options)
        self._schedule = build_schedule(self._optimizer, options, self._steps * options.epochs)
        self._variance = unit_variance(self.faces, self.train.indices)
        self._log = RunLog(self.folder, every=1)

    @property
    def _backbone(self) -> LocalDDAMFN:
        assert isinstance(self.network.backbone, LocalDDAMFN)
        return self.network.backbone

    def resume(self) -> bool:
        """Go on from `last.pt` if there is one; raises CheckpointError where it belongs to another configuration."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = load_plain(path)
        if state["config"] != self.config.fingerprint():
            raise other_configuration(path, json.loads(state["config"]), json.loads(self.config.fingerprint()))
        self._trained.load_state_dict(state["trained"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**json.loads(state["progress"]))
        return True

    def run(self) -> None:
        """Train to the last epoch."""
        while self.progress.epoch < self.config.optimizer.epochs:
            self.epoch()

    def epoch(self) -> None:
        """Train for an epoch, measure on validation, and write what goes on from there."""
        progress = self.progress
        self._trained.train()
        for places in tqdm(self._batches(), total=self._steps, desc=f"epoch {progress.epoch + 1}"):
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._loss(places)
            loss.backward()
            nn.utils.clip_grad_norm_(self._trained.parameters(), self.config.optimizer.gradient_norm)
            self._optimizer.step()
            self._schedule.step()
            progress.step += 1
            progress.loss += (float(loss.detach()) - progress.loss) / progress.step
        self._finish_epoch()

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Places of an epoch's faces, in random order; an incomplete last batch is left out."""
        size = self.config.optimizer.batch_size
        seed = (self.config.run.seed, self.progress.epoch)
        order = np.random.default_rng(seed).permutation(len(self.train.indices))
        for number in range(self._steps):
            yield np.sort(order[number * size : (number + 1) * size])

    def _loss(self, places: NDArray[np.int64]) -> Tensor:
        """Of a batch, in the epoch's view."""
        number = self.progress.epoch % len(self.train.views)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.run.precision == "bfloat16"):
            vectors = vectors_of(self._backbone, self.train.views[number][places]).float()
        indices = self.train.indices[places]
        weights = LossWeights(attention=0, **self.config.loss.model_dump())
        loss = total_loss(
            self.network.forward_vectors(vectors), targets(self.faces, indices), None, weights, self._variance
        )
        if self.auxiliary is None:
            return loss
        outputs = self._trained["auxiliary"](vectors[:, VECTOR_SIZE:])
        return loss + self.auxiliary.loss(outputs, indices, self.train.mirrored[number][places])

    def _finish_epoch(self) -> None:
        progress = self.progress
        rows = self.faces.indices("validation")[: self.config.data.limit]
        measures = headline(self.faces, rows, self.outputs())
        record = {"epoch": progress.epoch + 1, "loss": progress.loss, **measures}
        progress.history.append(record)
        self._log.epoch(progress.epoch + 1, progress.history)
        if measures["score"] > progress.best_score:
            progress.best_score = measures["score"]
            training = {
                "prepared": asdict(self.faces.info),
                "config": json.loads(self.config.fingerprint()),
                "validation": record,
            }
            best = TrainedNetwork(self.spec, self.input, dict(self.network.state_dict()), training)
            save_trained(best, self.folder / "best.pt")
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        state = {
            "config": self.config.fingerprint(),
            "trained": self._trained.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "progress": json.dumps(asdict(progress)),
        }
        save_atomically(state, self.folder / "last.pt")

    @torch.inference_mode()
    def outputs(self) -> Outputs:
        """On the validation faces, as the network is now."""
        self._trained.eval()
        rows = self.validation.views[0]
        parts = [
            self.network.forward_vectors(vectors_of(self._backbone, rows[i : i + 256]))
            for i in range(0, len(rows), 256)
        ]
        whole = {task: torch.cat([getattr(part, task) for part in parts]).double().numpy() for task in self.spec.tasks}
        return Outputs(self.validation.indices, *(whole.get(task) for task in TASKS))


def build_local_run(config: LocalConfig, folder: Path) -> LocalRun:
    """A seeded run in its folder; what its store lacks is computed first, in minutes a view.

    Raises BundleError, CheckpointError, DatasetError, ModuleNotFoundError, ValueError.
    """
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    faces, source = load_prepared(config.data.prepared), load_evaluable(config.network.start_from)
    require_match(source, faces)
    require_targets(faces, source.spec)
    if not isinstance(source.network.backbone, DDAMFN) or source.spec.recurrent is not None:
        raise CheckpointError(f"{config.network.start_from} is not a DDAMFN that reads single faces")
    spec = NetworkSpec("ddamfn-local", source.spec.tasks, source.spec.labels, source.spec.hidden)
    network = build_network(spec)
    continue_from(network, spec, source.network, source.spec, config.network.start_from)
    network.eval()
    rows, weights = faces.indices("train")[: config.data.limit], config.auxiliary
    auxiliary = auxiliary_targets(faces, rows, weights) if weights.blendshapes or weights.shape else None
    train, validation = _stored_faces(config, faces, source.input, network, folder)
    return LocalRun(config, faces, spec, source.input, network, train, validation, auxiliary, folder)


def _stored_faces(
    config: LocalConfig, faces: PreparedFaces, spec: InputSpec, network: AffectNetwork, folder: Path
) -> tuple[StoredFaces, StoredFaces]:
    backbone = network.backbone
    assert isinstance(backbone, LocalDDAMFN)
    store = open_store(folder / "maps", faces, spec, backbone, config)

    def stored(split: Split, views: int) -> StoredFaces:
        indices = faces.indices(split)[: config.data.limit]
        indices = indices[faces.found[indices]]
        rows = [store.view(indices, split, number) for number in range(views)]
        return StoredFaces(indices, rows, [store.mirrored(indices, number) for number in range(views)])

    return stored("train", config.views.train), stored("validation", 1)
