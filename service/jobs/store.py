"""Jobs as rows and files together, in the order that loses nothing that was accepted.

An upload is on disk before its row is, and a result before its row says so; files go only after the row that needed
them. What a crash leaves between two of these steps are files without a row, which the sweep removes.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog
from sqlalchemy import URL

from service.errors import IdempotencyConflict, InternalError, JobExpired, Limit, NotFound, Overloaded, ServiceError
from service.jobs.files import JobFiles, telling_what_storage_lacks
from service.jobs.job import ENDED, LIVE, Job, State
from service.jobs.liveness import forget_dead, is_dead
from service.jobs.table import MAX_DEATHS, JobTable

LEASE_S = 30.0
"""Seconds after a worker's last sign of life in which its job is taken up, where nothing else tells that it is dead."""

TOMBSTONE_S = 7 * 86_400.0
"""Seconds for which an expired job is told from one that never was."""

ROOM_S = 60.0
"""Seconds after which to come back where too many jobs wait."""

STRAY_S = 3600.0
"""Seconds for which a file without a row is left alone: its upload may still be coming in."""

logger = structlog.get_logger("service.jobs")


@dataclass(frozen=True)
class Order:
    """The request for a job."""

    caller: str
    """Digest of the request's API key; empty where no key is required."""
    request_id: str
    media_type: str
    """Media type of the result."""
    options: str
    """The request's parameters as a JSON object."""
    idempotency_key: str | None = None


class JobStore:
    """The jobs of all workers that share a folder and a database.

    Its calls block, for they wait for the disk; several threads may make them at once. They raise StorageFull and
    OutOfResources where the folder or the table cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        url: str | URL | None = None,
        *,
        ttl_s: float,
        most_queued: Limit | None = None,
        lease_s: float = LEASE_S,
        max_deaths: int = MAX_DEATHS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the folder and the database, and make what is missing. Raises OSError and SQLAlchemyError.

        url: of the database; by default a SQLite file in the folder. ttl_s: seconds for which an ended job is kept.
        most_queued: the number of jobs that may wait; None sets no limit.
        lease_s, max_deaths: see LEASE_S and MAX_DEATHS. clock: seconds since 1970.
        """
        self.folder = folder
        self.files = JobFiles(folder)
        self.table = JobTable(url or URL.create("sqlite", database=str(folder / "jobs.sqlite3")), max_deaths)
        self._ttl_s = ttl_s
        self._most_queued = most_queued
        self._lease_s = lease_s
        self._clock = clock

    def close(self) -> None:
        """Close the database."""
        self.table.close()

    def require_room(self, caller: str, idempotency_key: str | None, upload_bytes: int) -> None:
        """Refuse a job before its upload is read: Overloaded where too many wait, StorageFull where it does not fit.

        upload_bytes: the length that its request announces, or 0. A key that has its job already is let through.
        """
        with telling_what_storage_lacks():
            self._require_place(caller, idempotency_key)
            self.files.require_room(upload_bytes)

    @contextmanager
    def receiving(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Make the id and the file of a job that is being received; without `accept` nothing of it stays."""
        job_id = secrets.token_hex(16)
        with telling_what_storage_lacks(), self.files.incoming(job_id) as file:
            yield job_id, file

    def accept(self, job_id: str, file: IO[bytes], order: Order) -> Job:
        """Have a received upload and its row on disk before this returns the job, or the one of the same key.

        Raises IdempotencyConflict where the key's job had another upload, other options or another media type, and
        Overloaded where too many jobs wait by now.
        """
        job = Job(
            id=job_id,
            caller=order.caller,
            request_id=order.request_id,
            media_type=order.media_type,
            options=order.options,
            created_s=self._clock(),
            fingerprint=_fingerprint(file, order) if order.idempotency_key else "",
            idempotency_key=order.idempotency_key,
        )
        accepted = None
        with telling_what_storage_lacks():
            if order.idempotency_key:
                self._expire()  # a key is forgotten with its job
            self._require_place(order.caller, order.idempotency_key)
            try:
                self.files.keep(job_id, file)
                accepted = self.table.add(job)
            finally:
                if accepted is not job:
                    self.files.remove_upload(job_id)
        if accepted.fingerprint != job.fingerprint:
            raise IdempotencyConflict("the Idempotency-Key was used for another upload, other options or another type")
        return accepted

    def find(self, job_id: str, caller: str) -> Job:
        """Return a job of a caller. Raises NotFound, also for another's, and JobExpired."""
        with telling_what_storage_lacks():
            job = self.table.find(job_id, caller)
        if job is None:
            raise NotFound("there is no such job")
        if job.state is State.EXPIRED or (job.expires_s is not None and job.expires_s <= self._clock()):
            raise JobExpired("the job has expired, and its result was removed")
        return job

    def result(self, job: Job) -> IO[bytes]:
        """Open the result of a job that has succeeded. Raises NotFound where it was just removed."""
        try:
            with telling_what_storage_lacks():
                return self.files.result(job).open("rb")
        except FileNotFoundError:
            raise NotFound("there is no such job") from None

    def remove(self, job_id: str, caller: str) -> None:
        """Cancel a job that has not ended, or delete one that has. Raises NotFound and JobExpired."""
        job = self.find(job_id, caller)
        now_s = self._clock()
        with telling_what_storage_lacks():
            if job.state in ENDED:
                self.table.delete(job_id, caller)
            elif not self.table.cancel(job_id, caller, now_s, now_s + self._ttl_s):
                self.table.delete(job_id, caller)  # it ended meanwhile
            self._remove_files(job_id)

    def claim(self, worker: str) -> Job | None:
        """Take up a job for a worker, which then holds its lease; None where none waits."""
        self._end_leases_of_dead()
        now_s = self._clock()
        return self.table.claim(worker, now_s, now_s + self._lease_s)

    def beat(self, job: Job, progress: float) -> bool:
        """Give a sign of life; False where the job was cancelled, or taken up by another."""
        now_s = self._clock()
        return self.table.beat(job, progress, now_s, now_s + self._lease_s)

    def succeed(self, job: Job, *, truncated: bool = False) -> bool:
        """End a job whose result was published; False, and no trace, where it is no longer this worker's.

        truncated: whether its file ended early because it is damaged.
        """
        now_s = self._clock()
        result = self.files.result(job)
        if not self.table.succeed(job, now_s, now_s + self._ttl_s, truncated=truncated):
            result.unlink(missing_ok=True)
            return False
        self.files.remove_upload(job.id)
        self.files.remove_results(job.id, but=result)
        return True

    def fail(self, job: Job, error: ServiceError) -> bool:
        """End a job with an error; False where it is no longer this worker's."""
        now_s = self._clock()
        failed = self.table.fail(job, now_s, now_s + self._ttl_s, _problem(error, job.request_id))
        if failed:
            self._remove_files(job.id)
        return failed

    def release(self, job: Job, delay_s: float = 0.0) -> bool:
        """Put a job back into the queue, to be claimed after some seconds; False where it is no longer this worker's.

        Its upload stays, and the journal of what has been analysed.
        """
        return self.table.release(job, self._clock() + delay_s)

    def too_old(self, job: Job) -> bool:
        """Return True for a job that has been there for so long that it is not tried again."""
        return self._clock() - job.created_s > self._ttl_s

    def sweep(self) -> list[Job]:
        """Fail jobs whose worker died too often, which are returned, and remove what has expired or belongs to nobody.

        Any worker may do it at any time.
        """
        self._end_leases_of_dead()
        forget_dead(self.folder)
        now_s = self._clock()
        error = InternalError("the service ended each time that it worked on this job, and tries it no more")
        given_up = self.table.give_up(now_s, now_s + self._ttl_s, _problem(error, ""))
        for job in given_up:
            self._remove_files(job.id)
        self._expire()
        self.table.forget(now_s - TOMBSTONE_S)
        self._remove_strays(now_s - STRAY_S)
        return given_up

    def _end_leases_of_dead(self) -> None:
        for job in self.table.running():
            if job.worker is not None and is_dead(self.folder, job.worker):
                self.table.end_lease(job, self._clock())

    def _require_place(self, caller: str, idempotency_key: str | None) -> None:
        most = self._most_queued
        if most is None or self.table.queued() < most["value"]:
            return
        if idempotency_key is None or self.table.of_key(caller, idempotency_key) is None:
            detail = f"{most['value']} jobs are waiting, and no more may; come back as told"
            raise Overloaded(detail, retry_after_s=ROOM_S, limit=most)

    def oldest_wait_s(self) -> float:
        """Return for how long the oldest queued job has waited, in seconds; 0 where none waits."""
        oldest_s = self.table.oldest_queued_s()
        return 0.0 if oldest_s is None else max(0.0, self._clock() - oldest_s)

    def _expire(self) -> None:
        for job in self.table.expire(self._clock()):
            self._remove_files(job.id)

    def _remove_strays(self, before_s: float) -> None:
        """Remove old files that no row needs: a crash left them, or their removal failed."""
        found = self.files.untouched_since(before_s)
        jobs = {job.id: job for job in self.table.of_ids(list(found))}
        for job_id, paths in found.items():
            job = jobs.get(job_id)
            needed = {self.files.result(job)} if job and job.state is State.SUCCEEDED else set()
            if job is None or job.state not in LIVE:
                for path in set(paths) - needed:
                    path.unlink(missing_ok=True)

    def _remove_files(self, job_id: str) -> None:
        self.files.remove_upload(job_id)
        self.files.remove_results(job_id)


def _fingerprint(file: IO[bytes], order: Order) -> str:
    """Return a digest of all that two requests with the same key must have in common."""
    file.seek(0)
    body = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return hashlib.sha256("\n".join((body, order.media_type, order.options)).encode()).hexdigest()


def _problem(error: ServiceError, request_id: str) -> str:
    return json.dumps(error.document(request_id))
