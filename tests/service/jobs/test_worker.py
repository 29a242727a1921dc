"""What a worker does with a job, whatever happens meanwhile. Time passes when a test says so."""

import asyncio
import errno
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from service.errors import Limit, NotReady, UndecodableMedia
from service.jobs import files, worker
from service.jobs.files import ResultWriter
from service.jobs.job import Job, State
from service.jobs.journal import JobJournal
from service.jobs.store import JobStore
from service.jobs.worker import RETRY_S, Analysis, JobWorker, Report
from tests.service.jobs.fakes import (
    Clock,
    DigestAnalysis,
    HangingAnalysis,
    JournallingAnalysis,
    Notes,
    accepted,
    expected_result,
    result_of,
)
from tests.service.jobs.test_store import names

HOURS = Limit(name="AFFECT_JOB_TIMEOUT_S", value=10_000)


def working(store: JobStore, analysis: Analysis | None = None, notes: Notes | None = None, **options: Any) -> JobWorker:
    return JobWorker(store, analysis or DigestAnalysis(), notes or Notes(), **{"time_limit": HOURS} | options)


def raising(error: Exception) -> DigestAnalysis:
    """An analysis that fails after three pieces."""

    def hook(job: Job, place: int) -> None:
        if place == 3:
            raise error

    return DigestAnalysis(hook)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_job_is_worked_on_to_its_end(tmp_path: Path, store: JobStore) -> None:
    notes = Notes()
    job = accepted(store, b"a video")

    def nothing_is_visible(job: Job, place: int) -> None:
        assert names(tmp_path) == [f"results/{job.id}.1.journal", f"results/{job.id}.1.part", f"uploads/{job.id}"]

    async def story() -> None:
        each = working(store, DigestAnalysis(nothing_is_visible), notes)
        assert await each.work_once()
        assert not await each.work_once()

    asyncio.run(story())
    assert result_of(store, job.id) == expected_result(b"a video")
    assert names(tmp_path) == [f"results/{job.id}.1"]
    assert store.find(job.id, "me").progress == 1
    assert (notes.ended, notes.counts["succeeded"], notes.counts["queued"]) == (["succeeded"], 1, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UndecodableMedia("the file is damaged"), "undecodable_media"),
        (RuntimeError("weights on fire"), "internal_error"),
        (TimeoutError("a network folder"), "internal_error"),
    ],
)
def test_a_job_that_cannot_be_done_fails_with_its_problem(
    tmp_path: Path, store: JobStore, error: Exception, code: str
) -> None:
    notes = Notes()
    job = accepted(store)
    asyncio.run(working(store, raising(error), notes).work_once())
    failed = store.find(job.id, "me")
    assert failed.document is not None
    assert (failed.state, failed.document["code"], failed.document["request_id"]) == (State.FAILED, code, "r-1")
    assert "fire" not in str(failed.document)
    assert (names(tmp_path), notes.ended) == ([], ["failed"])


@pytest.mark.parametrize("error", [NotReady("the network does not answer"), OSError(errno.ENOSPC, "full")])
def test_a_job_that_lacks_something_is_tried_again_later(
    tmp_path: Path, store: JobStore, clock: Clock, error: Exception
) -> None:
    job = accepted(store, b"a video")
    asyncio.run(working(store, raising(error)).work_once())
    assert (store.find(job.id, "me").state, names(tmp_path)) == (State.QUEUED, [f"uploads/{job.id}"])
    assert not asyncio.run(working(store).work_once())
    clock.now_s += RETRY_S
    assert asyncio.run(working(store).work_once())
    assert result_of(store, job.id) == expected_result(b"a video")


class SecondAnalysis(DigestAnalysis):
    """Hangs in a job's first attempt, and in the second one waits for the first one's end."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def pieces(
        self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report
    ) -> AsyncGenerator[bytes, None]:
        if job.attempt == 1:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()
        await self.ended.wait()
        async for piece in super().pieces(job, upload, journal, report):
            yield piece


def test_a_worker_that_takes_its_own_job_up_again_ends_the_first_attempt_only(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of the machine, in which the lease of a job runs out whose worker lives."""
    monkeypatch.setattr(worker, "BEAT_S", 0.001)
    job = accepted(store, b"a video")

    async def story() -> None:
        analysis = SecondAnalysis()
        each = working(store, analysis, most=2)
        with pytest.MonkeyPatch.context() as patch:
            # No sign of life reaches the table, nor is one on its way when the clock moves.
            patch.setattr(store, "beat", lambda job, share: True)
            first = asyncio.create_task(each.work_once())
            await analysis.began.wait()
            clock.now_s += 10_000
            second = asyncio.create_task(each.work_once())
            await until(lambda: store.find(job.id, "me").attempt == 2)
        assert await second
        assert await first

    asyncio.run(story())
    assert result_of(store, job.id) == expected_result(b"a video")
    assert store.find(job.id, "me").state == State.SUCCEEDED


def test_what_an_attempt_has_put_down_is_not_done_again(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    job = accepted(store, b"a video")
    store._ttl_s = 1e9
    done: list[tuple[int, int]] = []

    def hook(job: Job, place: int) -> None:
        done.append((job.attempt, place))
        if (job.attempt, place) in ((1, 2), (3, 4)):
            raise NotReady("the network does not answer")
        if job.attempt == 2:
            raise OSError(errno.ENOSPC, "full")

    for _ in range(4):
        assert asyncio.run(working(store, JournallingAnalysis(hook)).work_once())
        clock.now_s += RETRY_S
    assert done == [(1, 0), (1, 1), (1, 2), (2, 2), (3, 2), (3, 3), (3, 4), (4, 4)]
    assert result_of(store, job.id) == expected_result(b"a video")
    assert names(tmp_path) == [f"results/{job.id}.4"]


def test_a_job_that_lacks_room_for_too_long_fails(store: JobStore, clock: Clock) -> None:
    job = accepted(store)
    clock.now_s += 101
    asyncio.run(working(store, raising(OSError(errno.ENOSPC, "full"))).work_once())
    failed = store.find(job.id, "me")
    assert failed.document is not None
    assert (failed.state, failed.document["code"], failed.document["status"]) == (State.FAILED, "storage_full", 507)


def test_a_result_that_does_not_fit_the_disk_is_not_visible(
    tmp_path: Path, store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(store, b"a video")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        asyncio.run(working(store).work_once())
    assert (store.find(job.id, "me").state, names(tmp_path)) == (State.QUEUED, [f"uploads/{job.id}"])
    clock.now_s += RETRY_S
    asyncio.run(working(store).work_once())
    assert result_of(store, job.id) == expected_result(b"a video")


def test_a_job_whose_time_is_over_fails(store: JobStore) -> None:
    job = accepted(store)
    analysis = HangingAnalysis()
    limit = Limit(name="AFFECT_JOB_TIMEOUT_S", value=0.05)
    asyncio.run(working(store, analysis, time_limit=limit).work_once())
    problem = store.find(job.id, "me").document
    assert problem is not None
    assert (problem["code"], problem["limit"]) == ("deadline_exceeded", {"name": "AFFECT_JOB_TIMEOUT_S", "value": 0.05})


def test_a_stop_puts_running_jobs_back_and_is_no_death(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    jobs = []
    for content in (b"one", b"two", b"three"):
        clock.now_s += 1
        jobs.append(accepted(store, content))
    analysis = HangingAnalysis()

    async def story() -> None:
        async with working(store, analysis, most=2):
            await until(lambda: store.table.counts()["running"] == 2)
            await analysis.began.wait()

    asyncio.run(story())
    assert analysis.closed
    found = [store.find(job.id, "me") for job in jobs]
    assert [(job.state, job.attempt, job.deaths) for job in found] == [
        (State.QUEUED, 1, 0),
        (State.QUEUED, 1, 0),
        (State.QUEUED, 0, 0),
    ]
    assert names(tmp_path) == sorted(f"uploads/{job.id}" for job in jobs)

    async def again() -> None:
        async with working(store):
            await until(lambda: store.table.counts()["succeeded"] == 3)

    asyncio.run(again())
    assert [result_of(store, job.id) for job in jobs] == [expected_result(each) for each in (b"one", b"two", b"three")]


def test_a_cancelled_job_ends_the_work_here_at_once(tmp_path: Path, store: JobStore) -> None:
    job = accepted(store)
    analysis = HangingAnalysis()

    async def story() -> None:
        each = working(store, analysis)
        work = asyncio.create_task(each.work_once())
        await analysis.began.wait()
        store.remove(job.id, "me")
        each.stop(job.id)
        assert await work

    asyncio.run(story())
    assert analysis.closed
    assert (store.find(job.id, "me").state, names(tmp_path)) == (State.CANCELLED, [])


def test_a_job_whose_files_go_before_its_work_begins_is_no_fault(store: JobStore) -> None:
    notes = Notes()
    accepted(store)
    claim = store.claim

    def cancelled_at_once(worker: str) -> Job | None:
        job = claim(worker)
        if job is not None:
            store.remove(job.id, "me")
        return job

    store.claim = cancelled_at_once  # type: ignore[method-assign]
    with capture_logs() as lines:
        assert asyncio.run(working(store, notes=notes).work_once())
    assert [line["event"] for line in lines] == ["job started", "job attempt ended"]
    assert notes.ended == []


def test_a_job_that_was_lost_elsewhere_ends_with_the_next_sign_of_life(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_S", 0.01)
    job = accepted(store)
    analysis = HangingAnalysis()

    async def story() -> None:
        work = asyncio.create_task(working(store, analysis).work_once())
        await analysis.began.wait()
        await until(lambda: store.find(job.id, "me").progress == 0.5)  # signs of life tell it
        clock.now_s += 11  # this process was stopped for so long
        if store.claim("another") is None:  # unless it gave one just then
            clock.now_s += 11
            assert store.claim("another") is not None
        assert await work

    asyncio.run(story())
    assert analysis.closed
    found = store.find(job.id, "me")
    assert (found.state, found.worker, found.attempt, found.deaths) == (State.RUNNING, "another", 2, 1)


def test_an_end_that_the_table_does_not_take_is_written_later(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE_S", 0)
    job = accepted(store, b"a video")
    succeed = store.succeed
    failures = [OperationalError("UPDATE", {}, sqlite3.OperationalError("disk I/O error")) for _ in range(3)]

    def stubborn(job: Job, *, truncated: bool) -> bool:
        if failures:
            raise failures.pop()
        return succeed(job, truncated=truncated)

    monkeypatch.setattr(store, "succeed", stubborn)
    asyncio.run(working(store).work_once())
    assert not failures
    assert result_of(store, job.id) == expected_result(b"a video")


def test_no_job_begins_while_none_may(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_S", 0.001)
    job = accepted(store)
    asked = []

    async def story() -> None:
        async with working(store, may_claim=lambda: bool(asked.append(1))):
            await until(lambda: len(asked) > 3)

    asyncio.run(story())
    assert store.find(job.id, "me") == job


def test_the_worker_outlives_a_table_that_fails(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_S", 0.001)
    accepted(store)
    claim = store.claim
    failures = [RuntimeError("no table")] * 3

    def failing(name: str) -> Job | None:
        if failures:
            raise failures.pop()
        return claim(name)

    monkeypatch.setattr(store, "claim", failing)

    async def story() -> None:
        async with working(store):
            await until(lambda: store.table.counts()["succeeded"] == 1)

    asyncio.run(story())


def test_a_large_result_is_written_in_blocks(tmp_path: Path) -> None:
    async def story() -> None:
        async with ResultWriter(tmp_path / "r") as result:
            for _ in range(40):
                await result.write(bytes(100_000))
            assert (tmp_path / "r.part").stat().st_size > 2_000_000
            assert not (tmp_path / "r").exists()
            await result.publish()

    asyncio.run(story())
    assert (tmp_path / "r").read_bytes() == bytes(4_000_000)
    assert not (tmp_path / "r.part").exists()


def test_a_job_that_is_stopped_while_its_upload_is_opened_leaves_no_file_open(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(store, b"one")
    opened: list[IO[bytes]] = []
    whole_open = Path.open

    async def story() -> None:
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(working(store, HangingAnalysis()).work_once())

        def opening(path: Path, mode: str) -> IO[bytes]:
            loop.call_soon_threadsafe(work.cancel)
            opened.append(whole_open(path, mode))  # type: ignore[arg-type]
            return opened[-1]

        monkeypatch.setattr(Path, "open", opening)
        await asyncio.gather(work, return_exceptions=True)
        assert work.cancelled()

    asyncio.run(story())
    assert [file.closed for file in opened] == [True]
