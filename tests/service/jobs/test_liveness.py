import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.jobs import liveness
from service.jobs.liveness import SUFFIX, alive, forget_dead, is_dead, this_boot, worker_name


def live(folder: Path, worker: str, told: Connection) -> None:
    """Be a worker until the process is killed."""
    with alive(folder, worker):
        told.send(True)
        told.recv()


@contextmanager
def killed(folder: Path, worker: str) -> Iterator[None]:
    """A worker in a process of its own, which is killed at the end of the block."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=live, args=(folder, worker, theirs))
    process.start()
    try:
        assert ours.recv()
        yield
    finally:
        process.kill()
        process.join(60)


def test_a_worker_is_dead_once_its_process_was_killed(tmp_path: Path) -> None:
    worker = worker_name()
    with killed(tmp_path, worker):
        assert not is_dead(tmp_path, worker)
        forget_dead(tmp_path)
    assert is_dead(tmp_path, worker)
    forget_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_has_ended_by_itself_leaves_nothing(tmp_path: Path) -> None:
    worker = worker_name()
    with alive(tmp_path, worker):
        assert [path.name for path in tmp_path.iterdir()] == [worker + SUFFIX]
        assert not is_dead(tmp_path, worker)
    assert list(tmp_path.iterdir()) == []
    assert not is_dead(tmp_path, worker)  # it may live elsewhere, for all that is known


def test_workers_of_other_machines_are_not_judged(tmp_path: Path) -> None:
    worker = worker_name().replace(this_boot(), "f" * 8)
    (tmp_path / (worker + SUFFIX)).touch()
    assert not is_dead(tmp_path, worker)
    forget_dead(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_nobody_is_judged_where_the_machine_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_boot(tmp_path / "none") == ""
    monkeypatch.setattr(liveness, "this_boot", lambda: "")
    worker = worker_name()
    (tmp_path / (worker + SUFFIX)).touch()
    assert not is_dead(tmp_path, worker)


def test_names_differ_and_fit_the_table() -> None:
    first, second = worker_name(), worker_name()
    assert first != second
    assert str(os.getpid()) in first
    assert len(first) <= 64
