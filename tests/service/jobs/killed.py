"""A worker in a process that a test kills: it tells each step that it takes, and works until no job waits."""

import asyncio
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

    def __init__(self, folder: Path, url: str, offset_s: float, steps: Connection | None = None) -> None:
        super().__init__(folder, url, ttl_s=1e9, max_deaths=1000, clock=lambda: time.time() + offset_s)
        self._steps = steps

    def tell(self, step: str = "") -> None:
        if self._steps is not None:
            self._steps.send(step)

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


def work(folder: Path, url: str, offset_s: float, steps: Connection) -> None:
    """Work on all jobs that wait."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    store = TellingStore(folder, url, offset_s, steps)
    analysis = JournallingAnalysis(lambda job, place: store.tell())
    worker = JobWorker(store, analysis, Notes(), Limit(name="", value=1e6))

    async def all_of_them() -> None:
        while await worker.work_once():
            pass

    with closing(store):
        asyncio.run(all_of_them())
    steps.close()
