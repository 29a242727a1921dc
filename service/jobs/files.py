"""The folder of jobs: uploads, and results, each of which is visible under its name only when it is whole.

uploads/ID.part        an upload that is being received
uploads/ID             the upload of a job that has been accepted
results/ID.ATTEMPT.part, results/ID.ATTEMPT        the same of a result; each attempt has a file of its own
results/ID.ATTEMPT.journal                         how far the analysis has come; see journal.py
NAME.worker            the lock of a worker that is alive; see liveness.py
"""

import errno
import os
import shutil
import sqlite3
from asyncio import to_thread
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from service.errors import OutOfResources, ServiceError, StorageFull
from service.jobs.job import Job
from service.jobs.journal import JobJournal, private

BLOCK_BYTES = 1024 * 1024
"""Bytes of a result that are written together, in a thread: the event loop is not to wait for a disk."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)

logger = structlog.get_logger("service.jobs")


@contextmanager
def telling_what_storage_lacks() -> Iterator[None]:
    """Raise StorageFull or OutOfResources instead of an error of the folder of jobs, or of their table."""
    try:
        yield
    except (OSError, OperationalError, InterfaceError) as error:
        told = _told(error)
        if told is None:
            raise
        logger.error("a job cannot be stored", error=type(error).__name__, code=told.code)
        raise told from None


def _told(error: OSError | OperationalError | InterfaceError) -> ServiceError | None:
    if not isinstance(error, OSError):
        # The lower byte is the kind; the rest tells which operation failed.
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_FULL:
            return StorageFull("the folder of jobs is full, or cannot be written")
        return OutOfResources("the table of jobs does not answer")
    if error.errno in _FULL:
        return StorageFull("the folder of jobs is full, or cannot be written")
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
        return OutOfResources("the service lacks memory, file descriptors or a working disk for a job")
    return None


class JobFiles:
    """The uploads and results of jobs in a private folder, which workers of one database share."""

    def __init__(self, root: Path) -> None:
        """Make the folder. Raises OSError."""
        self._uploads = root / "uploads"
        self._results = root / "results"
        for folder in (root, self._uploads, self._results):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def require_room(self, upload_bytes: int) -> None:
        """Raise StorageFull where an upload that announces its length does not fit the disk."""
        free_bytes = shutil.disk_usage(self._uploads).free
        if upload_bytes > free_bytes:
            raise StorageFull(f"the folder of jobs has room for {free_bytes} bytes, and the body has {upload_bytes}")

    @contextmanager
    def incoming(self, job_id: str) -> Iterator[IO[bytes]]:
        """Make the file for an upload that is being received; what is not kept by the block's end is removed."""
        part = self._uploads / f"{job_id}.part"
        try:
            with open(part, "x+b", opener=private) as file:
                yield file
        finally:
            part.unlink(missing_ok=True)

    def keep(self, job_id: str, file: IO[bytes]) -> None:
        """Have an upload on disk, under its name, before this returns."""
        _publish(file, self.upload(job_id))

    def scratch(self) -> IO[bytes]:
        """Return a new file without a name, which is gone when it is closed. Raises OSError."""
        return TemporaryFile(dir=self._results)

    def upload(self, job_id: str) -> Path:
        """Return the path of a job's upload."""
        return self._uploads / job_id

    def result(self, job: Job) -> Path:
        """Return the path of the result of a job's last attempt, whether or not it is there."""
        return self._results / f"{job.id}.{job.attempt}"

    def earlier_journals(self, job: Job) -> list[Path]:
        """Return the journals of a job's earlier attempts in their order. It looks through the whole folder."""

        def attempt(path: Path) -> int:
            return int(path.name.split(".")[1])

        found = [path for path in self._results.glob(f"{job.id}.*.journal") if attempt(path) < job.attempt]
        return sorted(found, key=attempt)

    def journal(self, job: Job, earlier: Sequence[Path]) -> JobJournal:
        """Return the journal of a job's last attempt, to which those of earlier ones are known. Raises OSError."""
        return JobJournal(self._results / f"{job.id}.{job.attempt}.journal", earlier)

    def remove_upload(self, job_id: str) -> None:
        """Remove a job's upload, if it is there."""
        self.upload(job_id).unlink(missing_ok=True)

    def remove_results(self, job_id: str, but: Path | None = None) -> None:
        """Remove the results of all attempts of a job, whole or not, but one."""
        for path in self._results.glob(f"{job_id}.*"):
            if path != but:
                path.unlink(missing_ok=True)

    def untouched_since(self, time_s: float) -> dict[str, list[Path]]:
        """Return the files that were last written before a time, by the id of their job."""
        found: dict[str, list[Path]] = {}
        for folder in (self._uploads, self._results):
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # removed meanwhile
                    if path.stat().st_mtime < time_s:
                        found.setdefault(path.name.partition(".")[0], []).append(path)
        return found


class ResultWriter:
    """Writes a result in large blocks, off the event loop. Use it in an `async with` block.

    What was not published by the end of the block is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._block = bytearray()

    async def __aenter__(self) -> "ResultWriter":
        # Not in a thread: a cancellation while it is opened would leave the file behind.
        self._file = open(self._part, "wb", opener=private)  # noqa: SIM115
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(OSError):  # of a buffer that does not fit the disk, either
            self._file.close()
        self._part.unlink(missing_ok=True)

    async def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises OSError."""
        self._block += piece
        if len(self._block) >= BLOCK_BYTES:
            block = bytes(self._block)
            self._block.clear()
            await to_thread(self._file.write, block)

    async def publish(self) -> None:
        """Have the result on disk, under its name, before this returns. Raises OSError."""
        await to_thread(self._publish)

    def _publish(self) -> None:
        self._file.write(self._block)
        _publish(self._file, self._path)


def _publish(file: IO[bytes], path: Path) -> None:
    """Write a file to the disk, rename it, and write its new name to the disk."""
    file.flush()
    os.fsync(file.fileno())
    os.rename(file.name, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
