"""The training loop that every kind of run shares. Read it first, from top to bottom.

`NetworkRun`, `LocalRun` and `SequenceRun` add what differs between them: their batches, a step, and the validation.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.runs.checkpoint import (
    Progress,
    TrainedNetwork,
    load_plain,
    other_configuration,
    save_atomically,
    save_trained,
)
from training.runs.processes import ALONE, Processes
from training.runs.run_log import RunLog

RECENT_STEPS = 100
"""The logged loss of an epoch is a running mean over about this many of its last steps."""

LARGEST_WEIGHT = 1e6
"""A run with a larger weight has diverged, although a bounded loss such as that of concordance stays finite."""

B = TypeVar("B")


class TrainingDiverged(Exception):
    """A loss or a validation score is not finite, or a weight has run away; the run's `best.pt` is removed."""


class Stateful(Protocol):
    """A part of a run that a checkpoint holds, such as a network, an optimizer or a gradient scaler."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain containers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take over a state that `state_dict` returned."""
        ...


@dataclass(frozen=True)
class LoopOptions:
    """The length of a run, and how often it writes."""

    epochs: int
    steps: int
    """Steps of an epoch."""
    fingerprint: Mapping[str, Any]
    """The settings that decide the weights, as plain JSON values. A run resumes only if they are the same."""
    save_every: int | None = None
    """Steps between checkpoints within an epoch. None: a checkpoint is written at the end of each epoch only."""
    log_every: int = 20
    """Steps between points of the training curves."""


class Run(ABC, Generic[B]):
    """One run in its folder, trained on batches of type B.

    The folder holds `last.pt` to resume from, `best.pt` with the weights of the best validation score (read it with
    `load_trained`), `log.jsonl` with a line an epoch, and TensorBoard's curves. When several processes share a run, the
    first of them writes and all of them resume from the same folder.
    """

    network: AffectNetwork
    spec: NetworkSpec
    input: InputSpec
    optimizer: Optimizer
    """Its last parameter group is that of the heads; its learning rate is logged."""
    schedule: LRScheduler

    def __init__(self, folder: Path, options: LoopOptions, processes: Processes = ALONE) -> None:
        self.folder = folder
        self.options = options
        self.processes = processes
        self.progress = Progress()
        self._log = RunLog(folder, options.log_every)

    def resume(self) -> bool:
        """Continue from `last.pt` if there is one, and return whether there is.

        Raises CheckpointError where it was made with another configuration; the message names the keys that differ.
        """
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        checkpoint = load_plain(path)
        saved = json.loads(checkpoint["config"])
        if saved != self.options.fingerprint:
            raise other_configuration(path, saved, self.options.fingerprint)
        for name, part in self._parts().items():
            part.load_state_dict(checkpoint[name])
        self.progress = Progress(**json.loads(checkpoint["progress"]))
        if not (self.folder / "best.pt").exists():  # it is removed when a run diverges
            self.progress.best_score = -math.inf
        return True

    def run(self) -> None:
        """Train to the last epoch. Raises TrainingDiverged."""
        while self.progress.epoch < self.options.epochs:
            self.train_epoch()
            self.finish_epoch()

    def train_epoch(self) -> None:
        """Take the steps of the current epoch that are left. Raises TrainingDiverged."""
        progress = self.progress
        self.begin_epoch()
        hidden = None if self.processes.leads else True  # None: where standard error is no terminal
        title = f"epoch {progress.epoch + 1}"
        with tqdm(self.batches(), title, self.options.steps, initial=progress.step, disable=hidden) as bar:
            for batch in bar:
                rate = self.optimizer.param_groups[-1]["lr"]
                loss = self.step(batch)
                progress.step += 1
                self._require_finite("loss", loss)
                progress.loss += (loss - progress.loss) / min(progress.step, RECENT_STEPS)
                bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
                if self.processes.leads:
                    self._log.step(self._steps_done, loss, rate)
                if self.options.save_every and progress.step % self.options.save_every == 0:
                    self._save()

    def finish_epoch(self) -> None:
        """Validate, log, keep the weights if they are the best so far, and write a checkpoint.

        Raises TrainingDiverged.
        """
        progress = self.progress
        self._require_bounded_weights()
        network, measures = self.validate()
        self._require_finite("validation score", measures["score"])
        record = {"epoch": progress.epoch + 1, "loss": progress.loss, **measures}
        progress.history.append(record)
        improved = measures["score"] > progress.best_score
        progress.best_score = max(progress.best_score, measures["score"])
        if self.processes.leads:
            self._log.epoch(self._steps_done, measures, progress.history)
            if improved:
                self._save_best(network, record)
        progress.epoch += 1
        progress.step = 0
        progress.loss = 0.0
        self._save()

    @abstractmethod
    def begin_epoch(self) -> None:
        """Make the network ready to train, at the beginning of an epoch or when one is resumed."""

    @abstractmethod
    def batches(self) -> Iterator[B]:
        """Return the batches of the current epoch from step `progress.step` on.

        They depend on nothing but the configuration, the epoch and the step, so that a resumed run repeats them.
        """

    @abstractmethod
    def step(self, batch: B) -> float:
        """Update the weights once, advance the schedule, and return the loss of the batch."""

    @abstractmethod
    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        """Return the network to keep and its validation measures.

        The epoch with the highest `score` among them is kept; it is NaN where an output of the network is not finite.
        """

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return the data and the configuration behind the weights, as plain JSON values for `best.pt`."""

    @abstractmethod
    def state(self) -> Mapping[str, Stateful]:
        """Return the parts that a checkpoint holds beside the optimizer and the schedule, by name."""

    @property
    def _steps_done(self) -> int:
        return self.progress.epoch * self.options.steps + self.progress.step

    def _parts(self) -> dict[str, Stateful]:
        return {"optimizer": self.optimizer, "schedule": self.schedule, **self.state()}

    def _save(self) -> None:
        if not self.processes.leads:
            return
        checkpoint = {
            "config": json.dumps(self.options.fingerprint),
            "progress": json.dumps(asdict(self.progress)),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        save_atomically(checkpoint, self.folder / "last.pt")

    def _save_best(self, network: AffectNetwork, record: Mapping[str, float]) -> None:
        weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        training = {**self.provenance(), "validation": dict(record)}
        save_trained(TrainedNetwork(self.spec, self.input, weights, training), self.folder / "best.pt")

    def _require_bounded_weights(self) -> None:
        for name, weight in self.network.named_parameters():
            largest = float(weight.detach().abs().max())
            if not largest <= LARGEST_WEIGHT:  # NaN included
                self._diverge(f"{name} has grown to {largest:.3g}")

    def _require_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            self._diverge(f"the {name} is {value}")

    def _diverge(self, reason: str) -> None:
        # All processes see the same numbers, and each removes the file: the first to end takes the others with it.
        (self.folder / "best.pt").unlink(missing_ok=True)
        epoch, step = self.progress.epoch + 1, self.progress.step
        raise TrainingDiverged(f"training diverged at epoch {epoch}, step {step}: {reason}; no weights are kept")
