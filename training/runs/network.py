"""Training a whole network on still pictures, by one process or several."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.batch_order import BatchOrder
from training.data.batches import Batch, EpochPlan, ahead, training_batches, unit_variance
from training.data.prepared import PreparedFaces
from training.datasets.raw import Split
from training.measuring.scoring import collect, concatenated, headline
from training.runs.config import OptimizerConfig, TrainConfig
from training.runs.norms import fix_norms, measure_norms, share_norms
from training.runs.optim import build_optimizer, build_schedule
from training.runs.processes import ALONE, Processes
from training.runs.run import LoopOptions, Run, Stateful
from training.runs.start import mean_weights
from training.runs.step import BatchGradient
from training.runs.teaching import Teacher
from training.runs.training_data import origin

NORM_BATCHES = 100
"""Batches on which the batch norms of the averaged network are measured before it is validated."""


@dataclass
class NetworkRun(Run[Batch]):
    """A run on still pictures; the moving average of its weights is what is validated and kept.

    Several processes share each batch and each validation, and their number may change when a run is resumed. Raises
    ValueError where faces, batch size, processes and device do not fit.
    """

    config: TrainConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    folder: Path
    device: torch.device
    processes: Processes = ALONE
    teacher: Teacher | None = None
    """Answers for the faces of the sets that are taught."""
    at_rest: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [N]: for each record that of the same person at rest, or -1; for `optimizer.compared` above 0."""

    def __post_init__(self) -> None:
        options, settings = self.config.optimizer, self.config.run
        self._rows = self._found("train")
        origins, shares = self.faces.origins[self._rows], self.faces.shares
        self._order = BatchOrder(origins, shares, options.batch_size, settings.seed)
        steps = self._order.steps
        _require_equal_parts(options, self.processes.count)
        fingerprint = self.config.fingerprint()
        loop = LoopOptions(options.epochs, steps, fingerprint, settings.save_every, settings.log_every)
        super().__init__(self.folder, loop, self.processes)
        share_norms(self.network, self.processes, self.device)
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self._gradient = BatchGradient(
            self.network,
            self.config.loss,
            self.processes,
            self.device,
            variance=unit_variance(self.faces, self._rows),
            precision=settings.precision,
            accumulate=options.accumulate,
            compile=settings.compile,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.optimizer = build_optimizer(self.network, options, options.trunk_factor)
        self.schedule = build_schedule(self.optimizer, options, steps * options.epochs)
        self._first = {name: value.clone() for name, value in self.network.state_dict().items()}
        self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(options.average_decay))

    def _found(self, split: Split) -> NDArray[np.int64]:
        rows = self.faces.indices(split, self.config.data.limit)
        return rows[self.faces.found[rows]]

    def begin_epoch(self) -> None:
        """Set training mode; in the last `fixed_norm_epochs`, take the averaged network and fix its batch norms.

        In a batch, a norm holds an extreme face down by the very variance it adds; alone, the same face runs away
        through the residual stages. With fixed norms training meets what serving will, and the loss punishes it.
        """
        epoch, step = self.progress.epoch, self.progress.step
        self.network.train()
        if not self._norms_fixed(epoch):
            return
        if step == 0 and epoch and not self._norms_fixed(epoch - 1):
            self.network.load_state_dict(self._average.module.state_dict())
        fix_norms(self.network)

    def _norms_fixed(self, epoch: int) -> bool:
        options = self.config.optimizer
        return options.epochs - options.fixed_norm_epochs <= epoch < options.epochs

    def batches(self) -> Iterator[Batch]:
        """Return this process's batches from the current step on, prepared in a thread of their own."""
        return ahead(self._batches_from(self.progress.step))

    def _batches_from(self, first: int) -> Iterator[Batch]:
        epoch = self.progress.epoch
        options = self.config.optimizer
        share = self.processes.share(options.batch_size + options.repeated)
        order = self._rows[self._order.epoch(epoch)]
        seed = (self.config.run.seed, epoch)
        plan = EpochPlan(order, seed, first, share, options.repeated, options.compared, self.at_rest)
        batches = training_batches(self.faces, self.input, self.config.augmentation, plan)
        return batches if self.teacher is None else self.teacher.teach(batches, self.faces)

    def step(self, batch: Batch) -> float:
        """Update the weights and their moving average; return the loss of the batch over all processes."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradient.compute(batch, self._scaler)
        self._scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.gradient_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.schedule.step()
        self._average.update_parameters(self.network)
        return loss

    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        """Return the averaged network and its measures on the whole split, of which each process sees its share.

        It is the mean of `network.start_share`.
        """
        network = self._averaged_network()
        if kept := self.config.network.start_share:
            network = deepcopy(network)
            network.load_state_dict(mean_weights(network.state_dict(), self._first, kept))
        rows = self.faces.indices("validation", self.config.data.limit)
        share = rows[self.processes.share(len(rows))]
        outputs = collect(network, self.faces, share, self.input, self.device)
        return network, headline(self.faces, rows, concatenated(self.processes.gather_objects(outputs)))

    def _averaged_network(self) -> AffectNetwork:
        """Return the averaged weights, with batch norms measured on them rather than averaged as well.

        Averages of a few noisy batches cost a point of accuracy and more of action units (Wu & Johnson, 2021).
        """
        network: AffectNetwork = self._average.module  # type: ignore[assignment]
        if self._norms_fixed(self.progress.epoch):
            return network
        images = (batch.images for batch in islice(self._batches_from(0), NORM_BATCHES))
        measure_norms(network, images, self.processes, self.device)
        return network

    def provenance(self) -> dict[str, Any]:
        """Return how the sets were prepared, and the configuration."""
        return {**origin(self.faces), "config": self.config.fingerprint()}

    def state(self) -> Mapping[str, Stateful]:
        """Return the network, its moving average and the gradient scaler."""
        return {"network": self.network, "average": self._average, "scaler": self._scaler}


def _require_equal_parts(options: OptimizerConfig, processes: int) -> None:
    """Refuse parts of unequal size, since all weigh the same in batch norms, or of one face, which has no variance."""
    size, parts = options.batch_size + options.repeated, processes * options.accumulate
    if size % parts or size < 2 * parts:
        shape = f"{processes} (processes) x {options.accumulate} (optimizer.accumulate)"
        name = "optimizer.batch_size + optimizer.repeated" if options.repeated else "optimizer.batch_size"
        raise ValueError(f"{name} {size} does not divide into {shape} equal parts of at least 2")
    if options.repeated > options.batch_size:
        raise ValueError("optimizer.repeated is larger than optimizer.batch_size")
