"""Workers that are killed at random moments: every accepted job ends once, with the result of an undisturbed run."""

import multiprocessing
import os
from collections import Counter
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import pytest

from service.jobs.job import State
from tests.service.jobs.fakes import accepted, expected_result, result_of
from tests.service.jobs.killed import TellingStore, work

ROUNDS = int(os.environ.get("KILL_ROUNDS", "6"))
"""How often both workers are killed; any number may be tried."""

AHEAD_S = 1000.0
"""Seconds between the clocks of two rounds: more than a lease."""


class Killed:
    """A worker that is killed at one of its steps, unless it has no more to do before."""

    def __init__(self, folder: Path, url: str, offset_s: float, last: int | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.service.jobs.killed"])
        self._steps, theirs = context.Pipe(duplex=False)
        self._process: ForkServerProcess = context.Process(target=work, args=(folder, url, offset_s, theirs, last))
        self._process.start()
        theirs.close()

    def join(self) -> list[str]:
        """The ids of jobs that it ended, once it is no more."""
        ended = [step for step in read(self._steps) if step]
        self._process.join(60)
        self._steps.close()
        self._process.close()
        return ended


def read(steps: Connection) -> list[str]:
    found: list[str] = []
    with suppress(EOFError):
        while True:
            found.append(steps.recv())
    return found


@pytest.mark.parametrize("seed", [1])
def test_every_job_ends_once_with_the_result_of_an_undisturbed_run(tmp_path: Path, url: str, seed: int) -> None:
    random = Random(seed)
    folder = tmp_path / "jobs"
    contents: dict[str, bytes] = {}
    ended: Counter[str] = Counter()

    with closing(TellingStore(folder, url, AHEAD_S * (ROUNDS + 2))) as store:
        for number in range(ROUNDS):
            for place in range(4):
                content = f"video {number}.{place}".encode()
                contents[accepted(store, content).id] = content
            pair = [Killed(folder, url, AHEAD_S * (number + 1), random.randrange(1, 25)) for _ in range(2)]
            for each in pair:
                ended.update(each.join())
        for each in [Killed(folder, url, AHEAD_S * (ROUNDS + 1)) for _ in range(2)]:
            ended.update(each.join())

        assert max(ended.values()) == 1
        jobs = [store.find(job_id, "me") for job_id in contents]
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        assert sum(job.deaths for job in jobs) >= ROUNDS // 3  # many kills came amid a job
        for job in jobs:
            assert result_of(store, job.id) == expected_result(contents[job.id])
        store._remove_strays(float("inf"))  # what kills between a row and its files left
    left = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    assert left == {f"results/{job.id}.{job.attempt}" for job in jobs}
