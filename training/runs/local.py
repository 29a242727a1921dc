"""Training local features, and the heads on them, beside a trained DDAMFN and features of regions, which are frozen.

The outputs of the frozen part are computed once, for a few views of each face (`maps.py`), so that an epoch takes
seconds instead of most of an hour.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model_core.affect import ACTION_UNITS, LEARNED_TASKS, Task
from model_core.losses import LossWeights, change_loss, soft_binary_cross_entropy
from model_core.models.ddamfn import DDAMFN, VECTOR_SIZE
from model_core.models.face_regions import FaceRegion
from model_core.models.heads import AffectNetwork
from model_core.models.local import LocalDDAMFN
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.batch_order import BatchOrder
from training.data.batches import targets, unit_variance
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.measuring.scoring import Outputs, headline
from training.runs.checkpoint import CheckpointError
from training.runs.config import LocalConfig
from training.runs.maps import Rows, Vectors, all_vectors, open_store, vectors_of
from training.runs.optim import build_optimizer, build_schedule, take_step
from training.runs.run import LoopOptions, Run, Stateful
from training.runs.start import continue_from, freeze, mean_weights
from training.runs.step import total_loss
from training.runs.trained import Evaluable, load_evaluable, require_match
from training.runs.training_data import load_training_faces, origin, records_at_rest, require_targets
from training.targets.auxiliary import OUTPUTS, AuxiliaryTargets, auxiliary_targets


@dataclass(frozen=True)
class StoredFaces:
    """The stored outputs of the frozen part for N faces."""

    indices: NDArray[np.int64]
    """int64 [N]: the faces' positions in the prepared set."""
    views: Sequence[Rows | Vectors]
    """What is stored of each view; vectors where local features are frozen."""
    mirrored: list[NDArray[np.bool_]]
    """bool [N] for each view: True where it mirrors the face."""


@dataclass
class LocalRun(Run[NDArray[np.int64]]):
    """A run whose batches are positions among the stored training faces; only local features and heads are trained."""

    config: LocalConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    train: StoredFaces
    validation: StoredFaces
    auxiliary: AuxiliaryTargets | None
    at_rest: NDArray[np.int64]
    """int64 [N]: for each stored training face the position of the same person at rest, or -1: it is not compared."""
    folder: Path

    def __post_init__(self) -> None:
        options = self.config.optimizer
        origins, shares = self.faces.origins[self.train.indices], self.faces.shares
        self._order = BatchOrder(origins, shares, options.batch_size, self.config.run.seed)
        steps = self._order.steps
        super().__init__(self.folder, LoopOptions(options.epochs, steps, self.config.fingerprint()))
        self._trained = nn.ModuleDict({"local": self._backbone.local, "heads": self.network.heads})
        if self.config.loss.change_head:
            self._trained["changes"] = nn.Linear(self.spec.vector_size, len(ACTION_UNITS))
        if self.auxiliary is not None:
            self._trained["auxiliary"] = nn.Linear(self.spec.vector_size - VECTOR_SIZE, OUTPUTS)
        self.optimizer = build_optimizer(self._trained, options)
        self.schedule = build_schedule(self.optimizer, options, steps * options.epochs)
        self._variance = unit_variance(self.faces, self.train.indices)
        self._first = {name: value.clone() for name, value in self.network.state_dict().items()}
        self._mean = AveragedModel(self._trained, use_buffers=True) if self.config.network.mean_of_epochs else None

    @property
    def _backbone(self) -> LocalDDAMFN:
        assert isinstance(self.network.backbone, LocalDDAMFN)
        return self.network.backbone

    def begin_epoch(self) -> None:
        """Set training mode; frozen local features keep the statistics of their norms."""
        self._trained.train()
        local = self._trained["local"]
        local.train(any(parameter.requires_grad for parameter in local.parameters()))

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Return the positions of each batch's faces, in the order of BatchOrder."""
        yield from self._order.epoch(self.progress.epoch)[self.progress.step :]

    def step(self, batch: NDArray[np.int64]) -> float:
        """Update local features and heads once; return the loss of the faces at these positions."""
        return take_step(self._loss(batch), self._trained, self.optimizer, self.schedule, self.config.optimizer)

    def _loss(self, positions: NDArray[np.int64]) -> Tensor:
        """Return the loss of a batch, whose faces are seen in the epoch's view."""
        number = self.progress.epoch % len(self.train.views)
        compared = np.flatnonzero(self.at_rest[positions] >= 0)
        seen = np.concatenate([positions, self.at_rest[positions[compared]]])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.run.precision == "bfloat16"):
            vectors = vectors_of(self._backbone, self.train.views[number][seen]).float()
        vectors, vectors_at_rest = vectors.tensor_split([len(positions)])
        indices = self.train.indices[positions]
        weights = LossWeights(attention=0, **self.config.loss.model_dump(exclude={"change_head"}))
        logits, target = self.network.forward_vectors(vectors), targets(self.faces, indices)
        loss = total_loss(logits, target, None, weights, self._variance)
        if len(compared):
            units, mask = target.action_units[compared], target.action_units_mask[compared]
            if self.config.loss.change:
                resting = self.network.forward_vectors(vectors_at_rest)
                assert logits.action_units is not None
                assert resting.action_units is not None
                changes = change_loss(logits.action_units[compared], resting.action_units, units, mask)
                loss = loss + self.config.loss.change * changes
            if self.config.loss.change_head:
                told = self._trained["changes"](vectors[compared] - vectors_at_rest)
                loss = loss + self.config.loss.change_head * soft_binary_cross_entropy(told, units, mask)
        if self.auxiliary is None:
            return loss
        outputs = self._trained["auxiliary"](vectors[:, VECTOR_SIZE:])
        return loss + self.auxiliary.loss(outputs, indices, self.train.mirrored[number][positions])

    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        """Return the network to keep, and its measures on the validation faces.

        It is the mean of `network.mean_of_epochs` and of `network.start_share`.
        """
        rows = self.faces.indices("validation", self.config.data.limit)
        network = deepcopy(self.network)
        if self._mean is not None:
            if self.progress.epoch % len(self.train.views) == 0:  # the epoch saw view 0
                self._mean.update_parameters(self._trained)
            parts = self._mean.module
            network.backbone.get_submodule("local").load_state_dict(parts.get_submodule("local").state_dict())
            network.heads.load_state_dict(parts.get_submodule("heads").state_dict())
        share = self.config.network.start_share
        network.load_state_dict(mean_weights(network.state_dict(), self._first, share))
        return network, headline(self.faces, rows, self.outputs(network))

    @torch.inference_mode()
    def outputs(self, network: AffectNetwork) -> Outputs:
        """Return the outputs of a network with this run's frozen part for the validation faces, read as it will be."""
        network.eval()
        backbone, views = network.backbone, self.validation.views
        assert isinstance(backbone, LocalDDAMFN)
        parts = [
            [network.forward_vectors(vectors_of(backbone, rows[start : start + 256])) for rows in views]
            for start in range(0, len(self.validation.indices), 256)
        ]

        def answers(task: Task) -> NDArray[np.float64]:
            means = [torch.stack([getattr(reading, task) for reading in readings]).mean(dim=0) for readings in parts]
            return np.asarray(torch.cat(means).double().numpy())

        whole = {task: answers(task) for task in self.spec.tasks}
        return Outputs(self.validation.indices, *(whole.get(task) for task in LEARNED_TASKS))

    def provenance(self) -> dict[str, Any]:
        """Return how the sets were prepared, and the configuration."""
        return {**origin(self.faces), "config": self.config.fingerprint()}

    def state(self) -> Mapping[str, Stateful]:
        """Return local features, heads and the auxiliary head; the frozen part is where the run started from."""
        return {"trained": self._trained} if self._mean is None else {"trained": self._trained, "mean": self._mean}


def build_local_run(config: LocalConfig, folder: Path) -> LocalRun:
    """Return a seeded run in its folder; missing outputs of the frozen part are computed first, in minutes a view.

    Raises BundleError, CheckpointError, DatasetError, ModuleNotFoundError, ValueError.
    """
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    faces, source = load_training_faces(config.data), load_evaluable(config.network.start_from)
    require_match(source, faces)
    if source.input.oriented:
        raise CheckpointError(
            f"{config.network.start_from} reads oriented faces, on which no local features are trained"
        )
    if not isinstance(source.network.backbone, DDAMFN) or source.spec.recurrent is not None:
        raise CheckpointError(f"{config.network.start_from} is not a DDAMFN that reads single faces")
    regions = _regions(config, source)
    spec = replace(source.spec.learned, backbone=_backbone_with(source.network.backbone, regions))
    require_targets(faces, spec)
    network = build_network(spec)
    continue_from(network, spec, source.network, source.spec, config.network.start_from)
    for name, region in regions.items():
        network.backbone.get_submodule(name).load_state_dict(region.state_dict())
    freeze(network, config.network.frozen)
    network.eval()
    rows, weights = faces.indices("train", config.data.limit), config.auxiliary
    auxiliary = auxiliary_targets(faces, rows, weights) if weights.blendshapes or weights.shape else None
    train, validation = _stored_faces(config, faces, source.input, network, folder)
    at_rest = _positions_at_rest(config, faces, spec, train.indices)
    answering = replace(source.input, with_mirror_image=config.network.with_mirror_image)
    return LocalRun(config, faces, spec, answering, network, train, validation, auxiliary, at_rest, folder)


def _regions(config: LocalConfig, source: Evaluable) -> dict[str, FaceRegion]:
    """Return the features of regions that a run adds to a network, by their names there.

    Raises BundleError, CheckpointError, also where the network has the features of such a region.
    """
    network = config.network
    asked = {"eyes": (network.eyes_from, "eye-region"), "mouth": (network.mouth_from, "mouth-region")}
    regions = {
        name: _region(path, backbone, source.input) for name, (path, backbone) in asked.items() if path is not None
    }
    for name in regions:
        if hasattr(source.network.backbone, name):
            raise CheckpointError(
                f"{network.start_from} has features of the region {name}, which its heads were fitted to"
            )
    return regions


def _region(path: Path, backbone: str, input_spec: InputSpec) -> FaceRegion:
    """Return the features of a run that read faces as `input_spec` says. Raises BundleError, CheckpointError."""
    source = load_evaluable(path)
    region = source.network.backbone
    if source.spec.backbone != backbone or not isinstance(region, FaceRegion):
        raise CheckpointError(f"{path} is a {source.spec.backbone}, and no {backbone}")
    if replace(source.input, with_mirror_image=input_spec.with_mirror_image) != input_spec:
        raise CheckpointError(f"{path} reads other pictures than the network that its features are added to")
    return region


def _backbone_with(backbone: DDAMFN, regions: Collection[str]) -> str:
    """Return the name of the backbone that has local features, and the regions' features beside a DDAMFN's own.

    Raises CheckpointError for the mouth without the eyes, which no backbone has.
    """
    has = {name: name in regions or hasattr(backbone, name) for name in ("eyes", "mouth")}
    if has["mouth"] and not has["eyes"]:
        raise CheckpointError("network.mouth_from is added to features of the eye region, which the network has not")
    return "ddamfn-local-regions" if has["mouth"] else "ddamfn-local-eyes" if has["eyes"] else "ddamfn-local"


def _positions_at_rest(
    config: LocalConfig, faces: PreparedFaces, spec: NetworkSpec, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where among the records `indices` those at rest are, int64 [N]; see LocalRun. Raises DatasetError."""
    if not config.loss.change and not config.loss.change_head:
        return np.full(len(indices), -1)
    records = records_at_rest(config.data, faces)[indices]
    positions = np.searchsorted(indices, records).clip(max=len(indices) - 1)
    found = np.where((records >= 0) & (indices[positions] == records), positions, -1)
    if "action_units" not in spec.tasks or not (found >= 0).any():
        raise DatasetError("loss.change compares the action units of rendered faces with the same faces at rest")
    return found


def _stored_faces(
    config: LocalConfig, faces: PreparedFaces, spec: InputSpec, network: AffectNetwork, folder: Path
) -> tuple[StoredFaces, StoredFaces]:
    backbone = network.backbone
    assert isinstance(backbone, LocalDDAMFN)
    store = open_store(folder / "maps", faces, spec, backbone, config)
    frozen = not any(parameter.requires_grad for parameter in backbone.local.parameters())

    def found(split: Split) -> NDArray[np.int64]:
        indices = faces.indices(split, config.data.limit)
        return indices[faces.found[indices]]

    def view(indices: NDArray[np.int64], split: Split, number: int, *, mirrored: bool = False) -> Rows | Vectors:
        rows = store.view(indices, split, number, mirrored=mirrored)
        return all_vectors(backbone, rows) if frozen else rows

    seen = found("train")
    numbers = range(config.views.train)
    train = StoredFaces(
        seen,
        [view(seen, "train", number) for number in numbers],
        [store.mirrored(seen, number) for number in numbers],
    )
    judged = found("validation")
    readings = [False, True] if config.network.with_mirror_image else [False]
    views = [view(judged, "validation", 0, mirrored=mirrored) for mirrored in readings]
    return train, StoredFaces(judged, views, [np.full(len(judged), mirrored) for mirrored in readings])
