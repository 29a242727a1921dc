"""The private folder of uploads: made and locked at the start, checked while it is used, removed at the end."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from service.errors import OutOfResources, ServiceError, StorageFull

PREFIX = "affect-uploads-"
"""Beginning of the names of these folders, by which those of dead processes are found."""

logger = structlog.get_logger("service")


@contextmanager
def upload_folder() -> Iterator[Path]:
    """Make a folder in the system's temporary one for the length of the block; those of dead processes are removed."""
    root = Path(tempfile.gettempdir())
    remove_dead_folders(root)
    # It has another name until it is locked, so that no other process takes it for a dead one's.
    unnamed = Path(tempfile.mkdtemp(prefix=".affect-", dir=root))
    folder = root / (PREFIX + unnamed.name.removeprefix(".affect-"))
    lock = os.open(unnamed, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_dead_folders(root: Path) -> None:
    """Remove folders of processes that were killed: nobody holds their lock. Those of other users are left alone."""
    for folder in root.glob(PREFIX + "*"):
        with suppress(OSError):  # it is somebody else's, locked by its living owner, or just being removed
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(folder)
                    logger.info("uploads of a process that was killed are removed", folder=folder.name)
            finally:
                os.close(lock)


@contextmanager
def telling_what_lacks() -> Iterator[None]:
    """Raise StorageFull or OutOfResources instead of the system's error about a file of the folder."""
    try:
        yield
    except OSError as error:
        told = _told(error)
        if told is None:
            raise
        logger.error("an upload cannot be stored", error=os.strerror(error.errno or 0))
        raise told from None


def why_unwritable(folder: Path) -> str | None:
    """Return why no upload can be stored at present, or None. It writes a file without a name."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        told = _told(error)
        return told.detail if told else "no upload can be stored"
    return None


def _told(error: OSError) -> ServiceError | None:
    """Return what a client is told about an error of the system, without a path; None for one of another kind."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFull("there is no disk space for an upload")
        case errno.EMFILE | errno.ENFILE:
            return OutOfResources("the service has too many files open")
        case errno.ENOMEM:
            return OutOfResources("the service has no memory for an upload")
        case errno.ENOENT | errno.ENOTDIR | errno.EROFS | errno.EACCES | errno.EPERM | errno.EIO:
            return OutOfResources("the temporary folder for uploads cannot be written")
    return None
