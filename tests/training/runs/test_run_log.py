import json
import math
import sys
import time
from pathlib import Path

import pytest

from training.runs import run_log
from training.runs.run_log import CURVES, RunLog

HISTORY = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}]


def tell(folder: Path, first: int, last: int, loss: float) -> None:
    """Steps `first` to `last` of a run with four an epoch."""
    log = RunLog(folder, every=2)
    for number in range(first, last + 1):
        log.step(number, loss, 0.001)
        if number % 4 == 0:
            history = HISTORY[: number // 4]
            log.epoch(number, {"accuracy": history[-1]["accuracy"]}, history)


def test_the_curves_of_a_resumed_run_are_those_of_a_whole_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard, of the extra `train`, is absent")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(tmp_path, 1, 7, loss=2.0)
    time.sleep(1)  # files are read in the order of their names, which begin with the second; within it, .9 is after .10
    tell(tmp_path, 5, 8, loss=1.0)  # resumed from a checkpoint after step 4
    events = EventAccumulator(str(tmp_path / CURVES)).Reload()

    def points(name: str) -> list[tuple[int, float]]:
        return [(event.step, round(event.value, 6)) for event in events.Scalars(name)]

    assert sorted(events.Tags()["scalars"]) == ["train/loss", "train/rate", "validation/accuracy"]
    assert points("train/loss") == [(2, 2), (4, 2), (6, 1), (8, 1)]
    assert points("train/rate") == [(step, 0.001) for step in (2, 4, 6, 8)]
    assert points("validation/accuracy") == [(4, 0.25), (8, 0.5)]


def test_an_epoch_that_is_done_again_has_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        tell(tmp_path, 5, 8, loss=1.0)
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == HISTORY
    assert capsys.readouterr().out.splitlines() == [json.dumps(HISTORY[1])] * 2


def test_a_measure_that_is_not_defined_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunLog(tmp_path, every=2).epoch(4, {"accuracy": 0.5}, [{"epoch": 1, "accuracy": 0.5, "ccc": math.nan}])
    line = '{"epoch": 1, "accuracy": 0.5, "ccc": null}'
    assert (tmp_path / "log.jsonl").read_text() == line + "\n"
    assert capsys.readouterr().out.splitlines() == [line]


def test_without_tensorboard_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_log, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tell(tmp_path, 1, 8, loss=1.0)
    assert capsys.readouterr().err == "no curves: the package tensorboard, of the extra `train`, is not installed\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
