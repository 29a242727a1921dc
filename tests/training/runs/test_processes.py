import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model_core.models.ddamfn import PooledMFN
from tests.training.conftest import FinishedRun
from training.runs.checkpoint import load_plain
from training.runs.config import load_config
from training.runs.norms import share_norms
from training.runs.processes import ALONE, Processes, joined_processes
from training.train import build_run

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
PATIENCE_S = 120


def workers(launcher: int) -> list[int]:
    """The processes that a process has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


@contextmanager
def torchrun(arguments: list[str], output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Two processes of `training.train`; whatever is left of them at the end is killed."""
    options = ["--standalone", "--nproc-per-node=2", "-m", "--", "training.train"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *arguments]
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as launcher,
    ):
        try:
            yield launcher
        finally:
            for worker in workers(launcher.pid):
                os.kill(worker, signal.SIGKILL)
            launcher.kill()


def weights(state: Mapping[str, Tensor]) -> Tensor:
    """All of a network's numbers, one after another."""
    return torch.cat([value.flatten().float() for value in state.values()])


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def test_two_processes_killed_and_resumed_reach_the_weights_of_one(finished: FinishedRun, tmp_path: Path) -> None:
    """Eight steps of two processes in two parts each, one of them killed with -9 on the way, against undivided ones.

    Norms are fixed all along, hence the start from trained weights: in training they would see a part only.
    """
    overrides = [f"network.start_from={finished.folder / 'best.pt'}", "optimizer.fixed_norm_epochs=2"]
    overrides += ["optimizer.rate=1e-4"]
    alone = build_run(load_config(finished.config, overrides), tmp_path / "alone", CPU)
    start = weights(alone.network.state_dict())
    alone.run()

    folder, output = tmp_path / "shared", tmp_path / "output"
    overrides += ["optimizer.accumulate=2"]
    arguments = ["--config", str(finished.config), "--run", str(folder)]
    arguments += [part for override in overrides for part in ("--set", override)]
    with torchrun([*arguments, "--set", "run.save_every=1"], output) as launcher:
        wait_for(folder / "last.pt", launcher)
        assert (folder / "last.pt").exists(), output.read_text()
        os.kill(workers(launcher.pid)[1], signal.SIGKILL)
        assert launcher.wait(PATIENCE_S) != 0, output.read_text()
    with torchrun(arguments, output) as launcher:
        assert launcher.wait(PATIENCE_S) == 0, output.read_text()
    assert re.findall("resuming at epoch [12], step", output.read_text())

    assert build_run(load_config(finished.config, overrides), folder, CPU).resume()  # as one process

    state, end = load_plain(folder / "last.pt"), weights(alone.network.state_dict())
    apart, way = weights(state["network"]) - end, end - start
    # AdamW's step for a gradient near 0 hangs on its rounding, so single weights may differ by a few steps of 1e-4.
    assert apart.norm() < 0.01 * way.norm()
    assert apart.abs().max() < 4e-4
    history = json.loads(state["progress"])["history"]
    for record, expected in zip(history, alone.progress.history, strict=True):
        assert record == pytest.approx(expected, abs=5e-3)
    assert [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] == history


@given(st.integers(0, 50), st.integers(1, 8))
def test_shares_make_the_whole_and_differ_by_one_at_most(length: int, count: int) -> None:
    things = list(range(length))
    shares = [things[Processes(rank, count).share(length)] for rank in range(count)]
    assert [thing for share in shares for thing in share] == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_by_itself_is_a_group_of_one() -> None:
    value = torch.ones(3, requires_grad=True)
    with joined_processes(CPU) as processes:
        assert processes == ALONE
        assert processes.leads
    assert not Processes(1, 2).leads
    assert ALONE.gather(value).tolist() == [1, 1, 1]
    assert not ALONE.gather(value).requires_grad
    assert ALONE.gather_objects("outputs") == ["outputs"]
    ALONE.add_up([value])
    assert value.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("device", "count", "shared"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)])
def test_norms_are_shared_on_gpus_under_the_same_names(device: str, count: int, shared: bool) -> None:
    network = PooledMFN()
    names = list(network.state_dict())
    share_norms(network, Processes(0, count), torch.device(device))
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert {isinstance(norm, nn.SyncBatchNorm) for norm in norms} == {shared}
    assert list(network.state_dict()) == names
