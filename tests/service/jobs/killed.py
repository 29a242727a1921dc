"""A worker in a process that is killed at one of its steps: it tells each of them, and works until no job waits.

It kills itself, so that it is this step and no later one, however soon the test hears of it.
"""

import asyncio
import os
import signal
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import structlog

from service.errors import Limit
from service.jobs.job import Job
from service.jobs.store import JobStore
from service.jobs.worker import JobWorker
from tests.service.jobs.fakes import JournallingAnalysis, Notes


class TellingStore(JobStore):
    """Tells each step; one that ended a job, by the job's id. Its clock is ahead of the machine's by `offset_s`."""

    def __init__(
        self, folder: Path, url: str, offset_s: float, steps: Connection | None = None, last: int | None = None
    ) -> None:
        """last: number of the step, from 1 on, at which the process is killed; None: it is not."""
        super().__init__(folder, url, ttl_s=1e9, max_deaths=1000, clock=lambda: time.time() + offset_s)
        self._steps = steps
        self._last = last
        self._told = 0

    def tell(self, step: str = "") -> None:
        if self._steps is not None:
            self._steps.send(step)
        self._told += 1
        if self._told == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def claim(self, worker: str) -> Job | None:
        self.tell()
        job = super().claim(worker)
        self.tell()
        return job

    def succeed(self, job: Job, *, truncated: bool = False) -> bool:
        self.tell()
        ended = super().succeed(job, truncated=truncated)
        self.tell(job.id if ended else "")
        return ended


def work(folder: Path, url: str, offset_s: float, steps: Connection, last: int | None) -> None:
    """Work on all jobs that wait, or until the step `last`."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    store = TellingStore(folder, url, offset_s, steps, last)
    analysis = JournallingAnalysis(lambda job, place: store.tell())
    worker = JobWorker(store, analysis, Notes(), Limit(name="", value=1e6))

    async def all_of_them() -> None:
        while await worker.work_once():
            pass

    with closing(store):
        asyncio.run(all_of_them())
    steps.close()
