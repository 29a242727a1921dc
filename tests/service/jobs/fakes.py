"""Stand-ins for what jobs rest on, and orders whose results a person can compute."""

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import IO

from service.jobs.job import Job
from service.jobs.journal import JobJournal
from service.jobs.store import JobStore, Order
from service.jobs.worker import Report

PIECES = 5


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def expected_result(content: bytes) -> bytes:
    """What DigestAnalysis makes of an upload."""
    return b"".join(hashlib.sha256(content + bytes([place])).digest() for place in range(PIECES))


class DigestAnalysis:
    """Gives PIECES digests of an upload, and calls `hook` with the place before each of them."""

    def __init__(self, hook: Callable[[Job, int], None] = lambda job, place: None) -> None:
        self.hook = hook

    async def pieces(
        self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report
    ) -> AsyncGenerator[bytes, None]:
        content = upload.read()
        for place in range(PIECES):
            self.hook(job, place)
            yield hashlib.sha256(content + bytes([place])).digest()
            report.progress((place + 1) / PIECES)
            await asyncio.sleep(0)


class JournallingAnalysis(DigestAnalysis):
    """The same, which makes no digest anew that its journal has."""

    async def pieces(
        self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report
    ) -> AsyncGenerator[bytes, None]:
        content = upload.read()
        place = 0
        for piece in journal.records():
            journal.append(piece, lasting=False)
            yield piece
            place += 1
        journal.take_over()
        while place < PIECES:
            self.hook(job, place)
            piece = hashlib.sha256(content + bytes([place])).digest()
            journal.append(piece)
            yield piece
            place += 1
            report.progress(place / PIECES)
            await asyncio.sleep(0)


class HangingAnalysis:
    """Gives one piece, and no more; tells when it has, and when it was closed."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.closed = False

    async def pieces(
        self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report
    ) -> AsyncGenerator[bytes, None]:
        try:
            yield b"half of it"
            report.progress(0.5)
            self.began.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


@dataclass
class Notes:
    """An observer that remembers."""

    counts: Mapping[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    oldest_s: float | None = None

    def jobs_counted(self, counts: Mapping[str, int]) -> None:
        self.counts = counts

    def jobs_waited(self, seconds: float) -> None:
        self.oldest_s = seconds

    def job_ended(self, state: str, seconds: float) -> None:
        self.ended.append(state)


def accepted(store: JobStore, content: bytes = b"a video", key: str | None = None, caller: str = "me") -> Job:
    """Have a store accept an upload, as the route does."""
    with store.receiving() as (job_id, file):
        file.write(content)
        return store.accept(job_id, file, Order(caller, "r-1", "text/csv", "{}", key))


def result_of(store: JobStore, job_id: str, caller: str = "me") -> bytes:
    """The result of a job, by its client's way."""
    file = store.result(store.find(job_id, caller))
    assert isinstance(file, io.BufferedReader)
    with file:
        return file.read()
