"""The training loop: epochs of steps with a checkpoint every so often, and the best weights on validation kept."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from tqdm import tqdm

from model_core.affect import AffectLogits, AffectTarget
from model_core.losses import LossWeights, affect_losses, attention_loss
from model_core.models import NetworkSpec
from model_core.models.ddamfn import DDAMFN
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.batches import Batch, ahead, training_batches
from training.checkpoint import CheckpointError, Progress, TrainedNetwork, load_plain, save_atomically, save_trained
from training.config import TrainConfig
from training.optim import build_optimizer, build_schedule
from training.prepared import PreparedFaces
from training.scoring import collect, headline


def encode(backbone: nn.Module, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The heads' vector [B, D], and the attention maps of a backbone that has any."""
    if isinstance(backbone, DDAMFN):
        parts = backbone.parts(images)
        return parts.vector, parts.attention
    return backbone(images), ()


def total_loss(
    logits: AffectLogits, target: AffectTarget, attention: tuple[Tensor, ...], weights: LossWeights
) -> Tensor:
    """The weighted sum of task losses, with the attention loss where there are attention maps."""
    losses = dict(affect_losses(logits, target))
    if attention and weights.attention > 0:
        losses["attention"] = attention_loss(attention)
    factors: Mapping[str, float] = asdict(weights)
    return torch.stack([factors[name] * loss for name, loss in losses.items()]).sum()


AVERAGE_DECAY = 0.998
"""Of the weights' moving average, a step: it remembers about 500."""

NORM_BATCHES = 100
"""Batches over which the averaged network's batch norms are measured anew before it is used."""


@dataclass
class TrainingRun:
    """One run in its folder: `last.pt` to resume, `best.pt` to use, `log.jsonl` with a line an epoch."""

    config: TrainConfig
    faces: PreparedFaces
    spec: NetworkSpec
    input: InputSpec
    network: AffectNetwork
    folder: Path
    device: torch.device

    def __post_init__(self) -> None:
        options = self.config.optimizer
        self._rows = self._found("train")
        self._steps = len(self._rows) // options.batch_size
        if not self._steps:
            raise ValueError(f"{len(self._rows)} training faces do not fill one batch of {options.batch_size}")
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self._optimizer: AdamW = build_optimizer(self.network, options)
        self._schedule: LambdaLR = build_schedule(self._optimizer, options, self._steps * options.epochs)
        self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
        self._encode = torch.compile(encode) if self.config.run.compile else encode
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
        if state["config"] != self._fingerprint():
            raise CheckpointError(f"{path} was made with another configuration; choose another run folder")
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._average.load_state_dict(state["average"])
        self.progress = Progress(**json.loads(state["progress"]))
        return True

    def run(self) -> None:
        """Train to the last epoch."""
        while self.progress.epoch < self.config.optimizer.epochs:
            loss = self._train_epoch()
            self._finish_epoch(loss)

    def _train_epoch(self) -> float:
        self._prepare_network()
        progress = self.progress
        batches = self._epoch_batches(progress.epoch, progress.step)
        mean, title = 0.0, f"epoch {progress.epoch + 1}"
        bar = tqdm(ahead(batches), total=self._steps, initial=progress.step, desc=title)
        for batch in bar:
            loss = self._step(batch)
            progress.step += 1
            mean += (loss - mean) / min(progress.step, 100)
            bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            if progress.step % self.config.run.save_every == 0:
                self._save()
        return mean

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
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def _epoch_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        return training_batches(
            self.faces,
            self._rows,
            self.input,
            self.config.augmentation,
            batch_size=self.config.optimizer.batch_size,
            seed=(self.config.run.seed, epoch),
            first=first,
        )

    def _step(self, batch: Batch) -> float:
        target = AffectTarget(**{name: value.to(self.device) for name, value in vars(batch.target).items()})
        self._optimizer.zero_grad(set_to_none=True)
        vector, attention = self._encode(self.network.backbone, batch.images.to(self.device))
        loss = total_loss(self.network.read(vector), target, attention, self.config.loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.gradient_norm)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.network)
        return float(loss.detach())

    def _finish_epoch(self, loss: float) -> None:
        progress = self.progress
        rows, network = self.faces.indices("validation")[: self.config.data.limit], self._averaged_network()
        measures = headline(self.faces, rows, collect(network, self.faces, rows, self.input, self.device))
        record = {"epoch": progress.epoch + 1, "loss": loss, **measures}
        progress.history.append(record)
        print(json.dumps({name: round(value, 4) for name, value in record.items()}), flush=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        if measures["score"] > progress.best_score:
            progress.best_score = measures["score"]
            weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
            save_trained(
                TrainedNetwork(self.spec, self.input, weights, self._description(record)), self.folder / "best.pt"
            )
        progress.epoch, progress.step = progress.epoch + 1, 0
        self._save()

    def _averaged_network(self) -> AffectNetwork:
        """The averaged weights, with batch norms measured on them: running averages fit neither them nor the last ones.

        Averages of a few noisy batches cost a point of accuracy and more of action units (Wu & Johnson, 2021).
        """
        network: AffectNetwork = self._average.module  # type: ignore[assignment]
        if self._norms_fixed(self.progress.epoch):
            return network
        batches = self._epoch_batches(self.progress.epoch, 0)
        update_bn((batch.images for batch in islice(batches, NORM_BATCHES)), self._average, self.device)
        return network

    def _description(self, measures: Mapping[str, float]) -> dict[str, Any]:
        return {
            "prepared": asdict(self.faces.info),
            "config": json.loads(self._fingerprint()),
            "validation": dict(measures),
        }

    def _fingerprint(self) -> str:
        return self.config.model_dump_json(exclude={"run": {"compile", "threads", "save_every"}})

    def _save(self) -> None:
        state = {
            "config": self._fingerprint(),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": self._average.state_dict(),
            "progress": json.dumps(asdict(self.progress)),
        }
        save_atomically(state, self.folder / "last.pt")
