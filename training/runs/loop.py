"""The training loop: epochs of steps with a checkpoint every so often, and the best weights on validation kept."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from model_core.models import NetworkSpec
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.batches import Batch, EpochPlan, ahead, training_batches, unit_variance
from training.data.prepared import PreparedFaces
from training.measuring.scoring import collect, headline, joined
from training.runs.checkpoint import (
    Progress,
    TrainedNetwork,
    load_plain,
    other_configuration,
    save_atomically,
    save_trained,
)
from training.runs.config import OptimizerConfig, TrainConfig
from training.runs.norms import fix_norms, measure_norms, share_norms
from training.runs.optim import build_optimizer, build_schedule
from training.runs.processes import ALONE, Processes
from training.runs.run_log import RunLog
from training.runs.step import BatchGradient

AVERAGE_DECAY = 0.998
"""Of the weights' moving average, a step: it remembers about 500."""

NORM_BATCHES = 100
"""Batches over which the averaged network's batch norms are measured anew before it is used."""


@dataclass
class TrainingRun:
    """One run in its folder: `last.pt` to resume, `best.pt` to use, `log.jsonl` with a line an epoch, curves.

    Several processes share each batch and each validation; the first of them writes, all read the one folder to resume,
    and their number may change in between. Raises ValueError where faces, batch, processes and device do not fit.
    """

    config: TrainConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    folder: Path
    device: torch.device
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        options, run = self.config.optimizer, self.config.run
        self._rows = self._found("train")
        self._steps = len(self._rows) // options.batch_size
        if not self._steps:
            raise ValueError(f"{len(self._rows)} training faces do not fill one batch of {options.batch_size}")
        _require_equal_parts(options, self.processes.count)
        share_norms(self.network, self.processes, self.device)
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self._gradient = BatchGradient(
            self.network,
            self.config.loss,
            self.processes,
            self.device,
            variance=unit_variance(self.faces, self._rows),
            precision=run.precision,
            accumulate=options.accumulate,
            compile=run.compile,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=run.precision == "float16")
        self._optimizer: AdamW = build_optimizer(self.network, options)
        self._schedule: LambdaLR = build_schedule(self._optimizer, options, self._steps * options.epochs)
        self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
        self._log = RunLog(self.folder, run.log_every)
        self.progress = Progress()

    def _found(self, split: str) -> Any:
        rows = self.faces.indices(split)[: self.config.data.limit]  # type: ignore[arg-type]
        return rows[self.faces.found[rows]]

    def resume(self) -> bool:
        """Go on from `last.pt` if there is one; raises CheckpointError where it belongs to another configuration."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = load_plain(path)
        if not self.config.continues(state["config"]):
            raise other_configuration(path, json.loads(state["config"]), json.loads(self.config.fingerprint()))
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._average.load_state_dict(state["average"])
        self._scaler.load_state_dict(state.get("scaler", {}))  # absent before there was a choice of precision
        self.progress = Progress(**json.loads(state["progress"]))
        return True

    def run(self) -> None:
        """Train to the last epoch."""
        while self.progress.epoch < self.config.optimizer.epochs:
            self._train_epoch()
            self._finish_epoch()

    def _train_epoch(self) -> None:
        self._prepare_network()
        progress, leads = self.progress, self.processes.leads
        batches = ahead(self._epoch_batches(progress.epoch, progress.step))
        title = f"epoch {progress.epoch + 1}"
        bar = tqdm(batches, total=self._steps, initial=progress.step, desc=title, disable=not leads)
        for batch in bar:
            rate = self._optimizer.param_groups[-1]["lr"]  # of the heads: the last parameters that the network names
            loss = self._step(batch)
            progress.step += 1
            progress.loss += (loss - progress.loss) / min(progress.step, 100)
            bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
            if leads:
                self._log.step(self._steps_done(), loss, rate)
            if progress.step % self.config.run.save_every == 0:
                self._save()

    def _steps_done(self) -> int:
        return self.progress.epoch * self._steps + self.progress.step

    def _norms_fixed(self, epoch: int) -> bool:
        options = self.config.optimizer
        return options.epochs - options.fixed_norm_epochs <= epoch < options.epochs

    def _prepare_network(self) -> None:
        """Training mode; in the last epochs, where so configured, the averaged network with its norms as they are.

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

    def _epoch_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        seed = (self.config.run.seed, epoch)
        plan = EpochPlan(self.config.optimizer.batch_size, seed, first, self.processes)
        return training_batches(self.faces, self._rows, self.input, self.config.augmentation, plan)

    def _step(self, batch: Batch) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._gradient.compute(batch, self._scaler)
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        self._average.update_parameters(self.network)
        return loss

    def _finish_epoch(self) -> None:
        progress, network = self.progress, self._averaged_network()
        measures = self._validate(network)
        record = {"epoch": progress.epoch + 1, "loss": progress.loss, **measures}
        progress.history.append(record)
        better = measures["score"] > progress.best_score
        progress.best_score = max(progress.best_score, measures["score"])
        if self.processes.leads:
            self._log.epoch(self._steps_done(), progress.history)
            if better:
                self._save_best(network, record)
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        self._save()

    def _validate(self, network: AffectNetwork) -> Mapping[str, float]:
        """The whole split's measures, each process having seen its share."""
        rows = self.faces.indices("validation")[: self.config.data.limit]
        share = rows[self.processes.share(len(rows))]
        outputs = collect(network, self.faces, share, self.input, self.device)
        return headline(self.faces, rows, joined(self.processes.gather_objects(outputs)))

    def _averaged_network(self) -> AffectNetwork:
        """The averaged weights, with batch norms measured on them: running averages fit neither them nor the last ones.

        Averages of a few noisy batches cost a point of accuracy and more of action units (Wu & Johnson, 2021).
        """
        network: AffectNetwork = self._average.module  # type: ignore[assignment]
        if self._norms_fixed(self.progress.epoch):
            return network
        images = (batch.images for batch in islice(self._epoch_batches(self.progress.epoch, 0), NORM_BATCHES))
        measure_norms(network, images, self.processes, self.device)
        return network

    def _save_best(self, network: AffectNetwork, record: Mapping[str, float]) -> None:
        weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        training = {
            "prepared": asdict(self.faces.info),
            "config": json.loads(self.config.fingerprint()),
            "validation": dict(record),
        }
        save_trained(TrainedNetwork(self.spec, self.input, weights, training), self.folder / "best.pt")

    def _save(self) -> None:
        if not self.processes.leads:
            return
        state = {
            "config": self.config.fingerprint(),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "progress": json.dumps(asdict(self.progress)),
        }
        save_atomically(state, self.folder / "last.pt")


def _require_equal_parts(options: OptimizerConfig, processes: int) -> None:
    """Equal, since all parts weigh the same in batch norms; of two faces, since one has no variance."""
    size, parts = options.batch_size, processes * options.accumulate
    if size % parts or size < 2 * parts:
        shape = f"{processes} (processes) x {options.accumulate} (optimizer.accumulate)"
        raise ValueError(f"optimizer.batch_size {size} does not divide into {shape} equal parts of at least 2")
