"""The shared loop, on runs whose losses and scores stand in the test."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.runs.checkpoint import CheckpointError, load_trained
from training.runs.run import LoopOptions, Run, Stateful, TrainingDiverged


class Scripted(Run[float]):
    """Two steps an epoch with the losses given, each of which adds 1 to the only weight; epochs score as given."""

    def __init__(
        self, folder: Path, scores: Sequence[float], losses: Mapping[int, float] | None = None, seed: int = 0
    ) -> None:
        super().__init__(folder, LoopOptions(len(scores), 2, {"run": {"seed": seed}}, save_every=1))
        self.spec = NetworkSpec("mfn-pooled", ("expression",), ("a", "b"))
        self.input = InputSpec(32, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1")
        self.network = AffectNetwork(nn.Identity(), {"expression": nn.Linear(1, 1, bias=False)})
        self.weight = self.network.heads["expression"].weight
        nn.init.zeros_(self.weight)
        self.optimizer = SGD(self.network.parameters(), lr=0.5)
        self.schedule = LambdaLR(self.optimizer, lambda step: 1.0)
        self.scores = scores
        self.losses = losses or {}

    def begin_epoch(self) -> None:
        self.network.train()

    def batches(self) -> Iterator[float]:
        steps = range(2 * self.progress.epoch + self.progress.step, 2 * self.progress.epoch + 2)
        return (self.losses.get(step, 10.0 - step) for step in steps)

    @torch.no_grad()
    def step(self, batch: float) -> float:
        self.weight += 1
        return batch

    def validate(self) -> tuple[AffectNetwork, Mapping[str, float]]:
        return self.network, {"score": self.scores[self.progress.epoch]}

    def provenance(self) -> dict[str, Any]:
        return {"prepared": {"dataset": "scripted"}}

    def state(self) -> Mapping[str, Stateful]:
        return {"network": self.network}


def kept(folder: Path) -> float:
    """The only weight of `best.pt`: the number of steps taken before it was kept."""
    return float(load_trained(folder / "best.pt").weights["heads.expression.weight"])


def test_the_epoch_with_the_highest_score_is_kept(tmp_path: Path) -> None:
    run = Scripted(tmp_path, [0.2, 0.5, 0.3])
    run.run()
    assert kept(tmp_path) == 4
    records = [{"epoch": 1, "loss": 9.5, "score": 0.2}, {"epoch": 2, "loss": 7.5, "score": 0.5}]
    records.append({"epoch": 3, "loss": 5.5, "score": 0.3})
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == records
    assert load_trained(tmp_path / "best.pt").training == {
        "prepared": {"dataset": "scripted"},
        "validation": records[1],
    }


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_resumed_run_takes_the_steps_that_are_left(tmp_path: Path, taken: int) -> None:
    stopped = Scripted(tmp_path, [0.2, 0.5], {taken: math.nan})
    with pytest.raises(TrainingDiverged):
        stopped.run()
    resumed = Scripted(tmp_path, [0.2, 0.5])
    assert resumed.resume()
    assert 2 * resumed.progress.epoch + resumed.progress.step == taken
    resumed.run()
    assert float(resumed.weight.detach()) == 4
    assert [record["loss"] for record in resumed.progress.history] == [9.5, 7.5]
    assert kept(tmp_path) == 4


def test_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    Scripted(tmp_path, [0.2]).run()
    with pytest.raises(CheckpointError, match=r"made with another configuration \(run\.seed\); choose another"):
        Scripted(tmp_path, [0.2], seed=1).resume()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_removes_its_weights(tmp_path: Path, value: float) -> None:
    run = Scripted(tmp_path, [0.2, 0.5], {3: value})
    run.train_epoch()
    run.finish_epoch()
    assert kept(tmp_path) == 2
    with pytest.raises(
        TrainingDiverged, match=f"^training diverged at epoch 2, step 2: the loss is {value}; no weights are kept$"
    ):
        run.run()
    assert not (tmp_path / "best.pt").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_ends_the_run_and_removes_its_weights(tmp_path: Path, value: float) -> None:
    with pytest.raises(TrainingDiverged, match=f"epoch 2, step 2: the validation score is {value};"):
        Scripted(tmp_path, [0.2, value]).run()
    assert not (tmp_path / "best.pt").exists()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("start", "grown"), [(1.1e6, r"1\.1e\+06"), (-1.1e6, r"1\.1e\+06"), (math.nan, "nan")])
def test_a_weight_that_runs_away_ends_the_run(tmp_path: Path, start: float, grown: str) -> None:
    run = Scripted(tmp_path, [0.2])
    nn.init.constant_(run.weight, start)
    with pytest.raises(TrainingDiverged, match=rf"heads\.expression\.weight has grown to {grown};"):
        run.run()
    assert not (tmp_path / "best.pt").exists()


def test_what_a_diverged_run_had_reached_does_not_count_when_it_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged):
        Scripted(tmp_path, [0.9, 0.1], {2: math.nan}).run()
    again = Scripted(tmp_path, [0.9, 0.1])
    assert again.resume()
    again.run()
    assert kept(tmp_path) == 4
