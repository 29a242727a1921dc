"""A run of a whole network that compares rendered faces with the same people at rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.losses import LossWeights, change_loss
from tests.fakes import write_prepared
from tests.training.sittings import write_sittings
from training.data.batches import image_batch
from training.datasets import DatasetError
from training.runs.config import load_config
from training.runs.config_file import ConfigError
from training.runs.network import NetworkRun
from training.runs.processes import ALONE, Processes
from training.runs.step import BatchGradient
from training.train import build_run

CPU = torch.device("cpu")
PLAIN = torch.amp.GradScaler("cpu", enabled=False)

CONFIG = """
kind = "network"
[data]
[[data.sets]]
prepared = "{folder}/rendered"
tasks = ["action_units"]
[[data.sets]]
prepared = "{folder}/faces"
[network]
backbone = "mfn-pooled"
[input]
size = 16
[loss]
change = 2.0
[augmentation]
flip = false
rotation_deg = 0
scale = 0
shift = 0
contrast = 0
brightness = 0
blur = 0
noise = 0
erase = 0
[optimizer]
batch_size = 8
compared = 3
epochs = 1
[run]
threads = 1
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training faces of two sittings, of whom one is at rest in record 0 and the other in record 4."""
    folder = tmp_path_factory.mktemp("compared")
    write_sittings(folder / "rendered", ["train", "train", "validation"])
    write_prepared(folder / "faces", train=8, validation=4, test=2, side=16)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    return folder / "config.toml"


@pytest.fixture(scope="module")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> NetworkRun:
    return build_run(load_config(config), tmp_path_factory.mktemp("run"), CPU)


def test_people_at_rest_follow_their_batch(run: NetworkRun) -> None:
    first, second = run._batches_from(0)
    assert sorted([*first.rows[:4], *second.rows[:4]]) == list(range(8))
    for batch in (first, second):
        assert (len(batch.rows), len(batch.images), len(batch.target.expression)) == (8, 11, 8)
        faces = batch.rows[batch.compared]
        assert set(faces) <= {1, 2, 3, 5, 6, 7}  # neither faces at rest nor those that are not rendered
        at_rest = [run.faces.crops[row // 4 * 4] for row in faces]
        assert torch.equal(batch.images[8:], image_batch(at_rest, run.input))


def test_the_loss_of_changes_is_that_of_the_compared_faces(run: NetworkRun) -> None:
    batch = next(run._batches_from(0))
    network = run.network.eval()
    with torch.no_grad():
        units = network(batch.images).action_units
    assert units is not None
    rows = torch.from_numpy(batch.compared)
    expected = change_loss(
        units[rows], units[8:], batch.target.action_units[rows], batch.target.action_units_mask[rows]
    )
    without = replace(batch, images=batch.images[:8], compared=np.zeros(0, dtype=np.int64))
    weights = LossWeights(change=2)
    losses = [BatchGradient(network, weights, ALONE, CPU).compute(each, PLAIN) for each in (batch, without)]
    assert losses[0] - losses[1] == pytest.approx(2 * float(expected), rel=1e-3)


def test_such_a_run_trains(run: NetworkRun) -> None:
    before = run.network.heads["action_units"].weight.detach().clone()
    run.run()
    assert not torch.equal(run.network.heads["action_units"].weight, before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.change=0.0"], "loss.change needs optimizer.compared, and the other way round"),
        (["optimizer.compared=0"], "loss.change needs optimizer.compared, and the other way round"),
        (["optimizer.accumulate=2"], "optimizer.compared adds faces to a step, which then has no equal parts"),
        (["network.tasks=['expression']"], "loss.change compares action units, which network.tasks leaves out"),
    ],
)
def test_settings_that_do_not_fit_are_named(config: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides)
    assert message in str(caught.value)


def test_a_run_without_faces_at_rest_is_refused(config: Path, tmp_path: Path) -> None:
    overrides = [f'data.sets=[{{prepared="{config.parent / "faces"}"}}]']
    with pytest.raises(DatasetError, match=r"loss\.change compares the action units of rendered faces"):
        build_run(load_config(config, overrides), tmp_path, CPU)


def test_several_processes_are_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a run with optimizer\.compared is done by one process"):
        build_run(load_config(config), tmp_path, CPU, Processes(rank=0, count=2))
