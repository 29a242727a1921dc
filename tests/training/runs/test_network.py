import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import LABEL_SETS
from tests.training.conftest import FinishedRun
from training.runs.checkpoint import CheckpointError, load_plain, load_trained
from training.runs.config import load_config
from training.runs.config_file import ConfigError
from training.runs.network import NetworkRun
from training.train import build_run

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def again(finished: FinishedRun, folder: Path, *overrides: str) -> NetworkRun:
    return build_run(load_config(finished.config, overrides), folder, CPU)


def kill_in_the_middle(finished: FinishedRun, folder: Path) -> None:
    """Start the real command, and end it without warning once its first checkpoint is there."""
    command = [sys.executable, "-m", "training.train", "--config", str(finished.config), "--run", str(folder)]
    process = subprocess.Popen(
        [*command, "--set", "run.save_every=1"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (folder / "last.pt").exists() and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_to_the_same_weights(finished: FinishedRun, tmp_path: Path) -> None:
    kill_in_the_middle(finished, tmp_path)
    run = again(finished, tmp_path)
    assert run.resume()
    assert 4 * run.progress.epoch + run.progress.step in range(1, 8)
    run.run()
    whole = finished.run.network.state_dict()
    for name, value in run.network.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=1e-6, msg=name)
    for record, other in zip(run.progress.history, finished.run.progress.history, strict=True):
        assert record == pytest.approx(other, abs=1e-5)
    best, expected = (load_trained(folder / "best.pt") for folder in (tmp_path, finished.folder))
    for name, value in best.weights.items():
        torch.testing.assert_close(value, expected.weights[name], rtol=0, atol=1e-6, msg=name)


def test_a_finished_run_has_nothing_left_to_do(finished: FinishedRun) -> None:
    run = again(finished, finished.folder)
    assert run.resume()
    assert (run.progress.epoch, run.progress.step) == (2, 0)
    assert run.progress.history == finished.run.progress.history
    before = (finished.folder / "log.jsonl").read_text()
    run.run()
    assert (finished.folder / "log.jsonl").read_text() == before


@pytest.mark.parametrize(("key", "value"), [("optimizer.rate", "0.1"), ("run.seed", "4"), ("loss.expression", "2.0")])
def test_another_configuration_is_refused_in_the_same_folder(finished: FinishedRun, key: str, value: str) -> None:
    with pytest.raises(CheckpointError, match=rf"last\.pt was made with another configuration \({key}\); choose"):
        again(finished, finished.folder, f"{key}={value}").resume()


def test_how_often_to_save_may_change(finished: FinishedRun) -> None:
    assert again(finished, finished.folder, "run.save_every=7").resume()


def test_scaled_gradients_make_the_same_steps(finished: FinishedRun, tmp_path: Path) -> None:
    """A gradient scaler as float16 has it, on the CPU, where its powers of 2 change nothing; and it is resumed."""
    overrides = ("optimizer.epochs=1", "run.save_every=2")
    plain, scaled = (again(finished, tmp_path / name, *overrides) for name in ("plain", "scaled"))
    scaled._scaler = torch.amp.GradScaler("cpu", init_scale=256)
    for run in (plain, scaled):
        run.train_epoch()
    expected = plain.network.state_dict()
    for name, value in scaled.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6, msg=name)
    resumed = again(finished, tmp_path / "scaled", *overrides)
    resumed._scaler = torch.amp.GradScaler("cpu")
    assert resumed.resume()
    assert resumed._scaler.get_scale() == 256


def test_a_new_folder_has_nothing_to_resume(finished: FinishedRun, tmp_path: Path) -> None:
    assert not again(finished, tmp_path / "new").resume()


def test_validation_counts_missing_faces_as_wrong(finished: FinishedRun) -> None:
    lines = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert math.isfinite(line["loss"])
        # Eight faces with a majority, one of them never found.
        assert line["accuracy"] * 8 == pytest.approx(round(line["accuracy"] * 8))
        assert line["accuracy"] <= 7 / 8


def test_the_best_epoch_is_kept_with_what_it_needs(finished: FinishedRun) -> None:
    best = load_trained(finished.folder / "best.pt")
    history = finished.run.progress.history
    assert best.training["validation"] == max(history, key=lambda record: record["score"])
    assert best.training["prepared"]["detector"] == "yuface-2023.5.1"
    assert best.spec.labels == LABEL_SETS["ferplus"]
    assert (best.input.size, best.input.alignment) == (16, "arcface-1")


def test_the_same_seed_starts_from_the_same_weights(finished: FinishedRun, tmp_path: Path) -> None:
    networks = [again(finished, tmp_path, f"run.seed={seed}").network for seed in (3, 3, 4)]
    first, second, third = (network.heads["expression"].weight for network in networks)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_checkpoints_are_plain_tensors(finished: FinishedRun) -> None:
    assert set(load_plain(finished.folder / "last.pt")) >= {"network", "optimizer", "schedule", "progress"}
    assert not list(finished.folder.glob("*.partial"))


def test_too_few_faces_for_a_batch(finished: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 training faces do not fill one batch of 8"):
        again(finished, tmp_path, "data.limit=5")


def test_rows_without_a_face_are_not_trained_on(finished: FinishedRun, tmp_path: Path) -> None:
    run = again(finished, tmp_path)
    assert run.faces.found[run._rows].all()
    assert np.array_equal(np.sort(run._rows), np.arange(32))


def test_the_averaged_network_has_norms_measured_on_it(finished: FinishedRun) -> None:
    run = again(finished, finished.folder)
    run.resume()
    network = run._averaged_network()
    first = network.backbone.features[0]
    batches = list(run._batches_from(0))
    with torch.no_grad():
        means = [first.conv(batch.images).mean(dim=(0, 2, 3)) for batch in batches]
    torch.testing.assert_close(first.bn.running_mean, torch.stack(means).mean(dim=0), atol=1e-5, rtol=0)


def test_the_best_weights_are_the_averaged_ones(finished: FinishedRun) -> None:
    state = load_plain(finished.folder / "last.pt")
    name = "heads.expression.weight"
    last, average = state["network"][name], state["average"][f"module.{name}"]
    assert not torch.equal(last, average)
    best = [record["score"] for record in finished.run.progress.history]
    if best[-1] == max(best):
        assert torch.equal(load_trained(finished.folder / "best.pt").weights[name], average)


def test_a_share_of_the_first_weights_is_kept(finished: FinishedRun, tmp_path: Path) -> None:
    start = f"network.start_from={finished.folder / 'best.pt'}"
    run = again(finished, tmp_path, start, "network.start_share=0.25", "optimizer.epochs=1")
    first = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.run()
    trained, saved = run._average.module.state_dict(), load_trained(tmp_path / "best.pt").weights
    name = "heads.expression.weight"
    assert not torch.equal(trained[name], first[name])
    for name, value in saved.items():
        torch.testing.assert_close(
            value, 0.75 * trained[name] + 0.25 * first[name] if "num_" not in name else trained[name]
        )


def test_a_share_of_weights_that_there_are_not_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"start_share needs network\.start_from"):
        again(finished, tmp_path, "network.start_share=0.25")


def test_the_last_epochs_keep_their_norms(finished: FinishedRun, tmp_path: Path) -> None:
    run = again(finished, tmp_path, "optimizer.fixed_norm_epochs=1")
    run.train_epoch()
    run.finish_epoch()
    averaged = {name: value.clone() for name, value in run._average.module.state_dict().items()}
    run.begin_epoch()
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, averaged[name]), name
    run.train_epoch()
    run.finish_epoch()
    best, changed = run._average.module.state_dict(), 0
    for name, value in run.network.state_dict().items():
        if "running" in name:
            assert torch.equal(value, averaged[name]), name
            assert torch.equal(best[name], averaged[name]), name
        changed += not torch.equal(value, averaged[name])
    assert changed > 50  # the weights did go on


def test_all_epochs_may_keep_the_norms_they_start_with(finished: FinishedRun, tmp_path: Path) -> None:
    run = again(finished, tmp_path, "optimizer.fixed_norm_epochs=2", "optimizer.epochs=1")
    before = run.network.backbone.features[0].bn.running_mean.clone()
    run.run()
    assert torch.equal(run.network.backbone.features[0].bn.running_mean, before)


def test_what_is_frozen_stays_as_it_is(finished: FinishedRun, tmp_path: Path) -> None:
    run = again(
        finished, tmp_path, 'network.frozen=["features.0."]', "optimizer.fixed_norm_epochs=1", "optimizer.epochs=1"
    )
    first, second = (run.network.backbone.features[number].conv.weight for number in (0, 1))
    before = first.clone(), second.clone()
    run.run()
    assert torch.equal(first, before[0])
    assert not torch.equal(second, before[1])


def test_a_run_that_diverges_ends_with_one_line_and_without_weights(finished: FinishedRun, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.train", "--config", str(finished.config), "--run", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--set", "optimizer.rate=1e12"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert re.fullmatch(r"error: training diverged at epoch 1, step \d: .*; no weights are kept\n", ended.stderr)
    assert not (tmp_path / "best.pt").exists()
