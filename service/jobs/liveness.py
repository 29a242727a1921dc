"""Which workers of this machine are alive: each holds the lock of a file, and the system lets it go when they die.

So a job of a worker that was killed need not wait until its lease has run out. Workers of other machines are not
judged: not every file system shows their locks.
"""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.jobs.journal import private

SUFFIX = ".worker"


def this_boot(boot_id: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return what tells this machine since its start from all others, containers aside; empty where that is unknown."""
    try:
        return boot_id.read_text().replace("-", "")[:8]
    except OSError:
        return ""


def worker_name() -> str:
    """Return a new name for a worker of this process; containers may share host names and process ids."""
    return f"{this_boot()}-{socket.gethostname()[:23]}-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def alive(folder: Path, worker: str) -> Iterator[None]:
    """Show others that a worker is alive, for the length of the block. Raises OSError."""
    path = folder / f"{worker}{SUFFIX}"
    # It has another name until it is locked, so that nobody takes it for a dead one's.
    unnamed = folder / f".{worker}"
    with open(unnamed, "wb", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            unnamed.rename(path)
            yield
        finally:
            for each in (unnamed, path):
                each.unlink(missing_ok=True)


def is_dead(folder: Path, worker: str) -> bool:
    """Return True for a worker of this machine that has died; False for a living one, and where that is unknown."""
    boot = this_boot()
    if not boot or not worker.startswith(f"{boot}-"):
        return False
    try:
        with (folder / f"{worker}{SUFFIX}").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # there is no such file, or it is locked
        return False
    return True


def forget_dead(folder: Path) -> None:
    """Remove the files of workers of this machine that have died."""
    for path in folder.glob(f"*{SUFFIX}"):
        if is_dead(folder, path.name.removesuffix(SUFFIX)):
            path.unlink(missing_ok=True)
