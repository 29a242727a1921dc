"""Rows and files together: what is accepted is on disk, and what is over leaves nothing."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from service.errors import IdempotencyConflict, JobExpired, Limit, NotFound, OutOfResources, Overloaded, StorageFull
from service.jobs import files
from service.jobs.files import telling_what_storage_lacks
from service.jobs.job import State
from service.jobs.liveness import SUFFIX, worker_name
from service.jobs.store import STRAY_S, TOMBSTONE_S, JobStore
from service.jobs.table import JobTable
from tests.service.jobs.fakes import Clock, accepted


def names(folder: Path) -> list[str]:
    """Uploads and results, as paths within the folder of jobs."""
    return sorted(path.relative_to(folder / "jobs").as_posix() for path in (folder / "jobs").glob("*/*"))


def publish(store: JobStore, content: bytes = b"a result") -> str:
    """Claim a job and have it succeed, as a worker does."""
    job = store.claim("w")
    assert job is not None
    store.files.result(job).write_bytes(content)
    assert store.succeed(job)
    return job.id


def test_an_accepted_upload_is_on_disk_before_its_row(
    tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            steps.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(files.os, "fsync", noting("fsync", os.fsync))
    monkeypatch.setattr(files.os, "rename", noting("rename", os.rename))
    monkeypatch.setattr(store.table, "add", noting("row", store.table.add))
    job = accepted(store)
    assert steps == ["fsync", "rename", "fsync", "row"]
    assert names(tmp_path) == [f"uploads/{job.id}"]
    assert store.files.upload(job.id).read_bytes() == b"a video"
    assert store.files.upload(job.id).stat().st_mode & 0o777 == 0o600


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, store: JobStore) -> None:
    def broken_off() -> None:
        with store.receiving() as (_, file):
            file.write(b"half")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken_off()
    assert names(tmp_path) == []
    assert store.claim("w") is None


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_: object) -> int:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(("place", "fault"), [("os.fsync", full), ("os.rename", full), ("private", read_only)])
def test_a_disk_that_takes_no_upload_is_told_and_keeps_nothing(
    tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch, place: str, fault: Callable[..., object]
) -> None:
    kept = accepted(store)
    with monkeypatch.context() as patch:
        patch.setattr(f"service.jobs.files.{place}", fault)
        with pytest.raises(StorageFull):
            accepted(store)
    assert names(tmp_path) == [f"uploads/{kept.id}"]
    assert store.find(kept.id, "me") == kept  # nothing that was accepted is lost


def test_a_full_table_is_a_full_disk_and_one_that_is_away_is_not() -> None:
    engine = create_engine("sqlite://")
    with closing(engine.raw_connection()) as connection:
        connection.execute("PRAGMA max_page_count=2")
        connection.execute("CREATE TABLE t (b)")
    with pytest.raises(StorageFull), telling_what_storage_lacks(), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")
    engine.dispose()
    nowhere = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=2"
    with pytest.raises(OutOfResources), telling_what_storage_lacks():
        JobTable(nowhere)


def test_a_key_makes_one_job_of_one_upload(tmp_path: Path, store: JobStore) -> None:
    job = accepted(store, b"a video", key="k")
    assert accepted(store, b"a video", key="k") == job
    with pytest.raises(IdempotencyConflict):
        accepted(store, b"another", key="k")
    assert accepted(store, b"another", key="k", caller="you").id != job.id
    assert len(names(tmp_path)) == 2


def test_a_key_is_free_as_soon_as_its_job_has_expired(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    first = accepted(store, b"a video", key="k")
    publish(store)
    clock.now_s += 99.5
    assert accepted(store, b"a video", key="k").id == first.id
    clock.now_s += 0.5  # no sweep has come since
    second = accepted(store, b"another", key="k")
    assert second.id != first.id
    assert names(tmp_path) == [f"uploads/{second.id}"]
    with pytest.raises(JobExpired):
        store.find(first.id, "me")


def test_a_result_stays_for_its_time_and_its_upload_does_not(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    job = accepted(store)
    publish(store)
    assert names(tmp_path) == [f"results/{job.id}.1"]
    with store.result(store.find(job.id, "me")) as file:
        assert file.read() == b"a result"
    clock.now_s += 99
    store.sweep()
    assert store.find(job.id, "me").state is State.SUCCEEDED
    clock.now_s += 1
    with pytest.raises(JobExpired):  # before any sweep
        store.find(job.id, "me")
    store.sweep()
    assert names(tmp_path) == []
    for call in (lambda: store.find(job.id, "me"), lambda: store.remove(job.id, "me")):
        with pytest.raises(JobExpired):
            call()
    with pytest.raises(NotFound):
        store.find(job.id, "you")
    clock.now_s += TOMBSTONE_S + 1
    store.sweep()
    with pytest.raises(NotFound):
        store.find(job.id, "me")


def test_a_queued_job_waits_however_long_it_takes(store: JobStore, clock: Clock) -> None:
    job = accepted(store)
    clock.now_s += 10_000
    store.sweep()
    assert store.find(job.id, "me") == job
    assert store.files.upload(job.id).exists()


def test_a_worker_that_comes_too_late_leaves_no_result(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    accepted(store)
    late = store.claim("late")
    clock.now_s += 10
    job_id = publish(store, b"the other's")
    assert late is not None
    store.files.result(late).write_bytes(b"mine")
    assert not store.succeed(late)
    assert names(tmp_path) == [f"results/{job_id}.2"]
    with store.result(store.find(job_id, "me")) as file:
        assert file.read() == b"the other's"


def test_a_job_whose_worker_was_killed_on_this_machine_is_taken_up_at_once(tmp_path: Path, store: JobStore) -> None:
    job = accepted(store, b"video")
    dead, living = worker_name(), worker_name()
    first = store.claim(dead)
    assert first is not None
    assert store.claim(living) is None  # what is not known to be dead keeps its lease
    (tmp_path / "jobs" / f"{dead}{SUFFIX}").touch()  # a lock that nobody holds
    second = store.claim(living)
    assert second is not None
    assert (second.id, second.attempt, second.deaths) == (job.id, 2, 1)
    assert not store.beat(first, 0.5)
    store.sweep()
    assert not (tmp_path / "jobs" / f"{dead}{SUFFIX}").exists()


def test_what_a_crash_left_is_removed_and_what_is_needed_stays(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    done = accepted(store)
    publish(store)
    waiting = accepted(store)
    running = store.claim("w")
    assert running is not None
    assert running.id == waiting.id
    folder = tmp_path / "jobs"
    left = [f"uploads/{done.id}", f"results/{done.id}.0.part", "uploads/unknown", "results/unknown.1"]
    needed = [f"results/{done.id}.1", f"uploads/{waiting.id}", f"results/{running.id}.1.part"]
    fresh = "uploads/coming.part"
    for name in (*left, *needed, fresh):
        (folder / name).touch()
        os.utime(folder / name, (clock.now_s, clock.now_s))
    clock.now_s += STRAY_S + 1
    os.utime(folder / fresh, (clock.now_s, clock.now_s))
    store.beat(running, 0.5)
    store._ttl_s = 1e9
    store._remove_strays(clock.now_s - STRAY_S)
    assert names(tmp_path) == sorted([*needed, fresh])


def test_the_third_death_is_a_problem_that_tells_so(tmp_path: Path, store: JobStore, clock: Clock) -> None:
    job = accepted(store)
    for _ in range(3):
        assert store.claim("w") is not None
        assert store.sweep() == []
        clock.now_s += 10
    assert store.claim("w") is None
    [given_up] = store.sweep()
    problem = given_up.document
    assert problem is not None
    assert (given_up.id, given_up.state, problem["code"], problem["status"]) == (
        job.id,
        State.FAILED,
        "internal_error",
        500,
    )
    assert names(tmp_path) == []


def test_what_is_removed_is_gone(tmp_path: Path, store: JobStore) -> None:
    job = accepted(store)
    store.remove(job.id, "me")
    assert store.find(job.id, "me").state is State.CANCELLED
    assert names(tmp_path) == []
    store.remove(job.id, "me")
    with pytest.raises(NotFound):
        store.remove(job.id, "me")


@pytest.fixture
def crowded(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    """A store in which two jobs may wait."""
    most = Limit(name="AFFECT_JOB_MAX_QUEUED", value=2)
    with closing(JobStore(tmp_path / "jobs", ttl_s=100, most_queued=most, clock=clock)) as store:
        yield store


def test_no_more_jobs_wait_than_may(tmp_path: Path, crowded: JobStore) -> None:
    first = accepted(crowded, key="k")
    accepted(crowded)
    for refused in (lambda: crowded.require_room("me", None, 0), lambda: accepted(crowded)):
        with pytest.raises(Overloaded) as caught:
            refused()
        assert caught.value.limit == {"name": "AFFECT_JOB_MAX_QUEUED", "value": 2}
        assert caught.value.headers == {"Retry-After": "60"}
    assert len(names(tmp_path)) == 2
    crowded.require_room("me", "k", 0)
    assert accepted(crowded, key="k").id == first.id  # which is there already
    assert crowded.claim("w") is not None
    crowded.require_room("me", None, 0)
    accepted(crowded)


def test_an_upload_that_does_not_fit_is_refused_before_it_is_read(store: JobStore) -> None:
    store.require_room("me", None, 1000)
    with pytest.raises(StorageFull, match=f"the body has {10**18}"):
        store.require_room("me", None, 10**18)


def test_the_longest_wait_is_that_of_the_oldest_queued_job(store: JobStore, clock: Clock) -> None:
    assert store.oldest_wait_s() == 0
    accepted(store)
    clock.now_s += 30
    accepted(store)
    assert store.oldest_wait_s() == 30
    store.claim("w")
    clock.now_s += 5
    assert store.oldest_wait_s() == 5


def test_a_job_that_was_put_back_waits_since_it_ran(store: JobStore, clock: Clock) -> None:
    accepted(store)
    job = store.claim("w")
    assert job is not None
    clock.now_s += 20
    assert store.beat(job, 0.5)
    assert store.release(job)
    assert store.oldest_wait_s() == 0
    clock.now_s += 7
    assert store.oldest_wait_s() == 7
