"""What the machine grants the service: memory, and room for temporary files."""

import ctypes
import gc
import os
from pathlib import Path

ARENAS = 4
"""Arenas of the C library that all threads share. With two, 16 clients got a tenth fewer answers a second; with one for
each thread, the service kept 100 MB more after large frames, and was no faster."""

LARGE_BYTES = 4 << 20
"""Size from which a block of memory is taken from the system by itself, and given back as soon as it is freed. The C
library would raise this up to 32 MB once large blocks have been freed, and their places in its arenas stay in use."""

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""The parameters' numbers in <malloc.h>."""


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process and its children may use (Linux).

    It is the lowest limit among its control groups and their parents, of version 2 or 1, or the machine's memory where
    none of them is lower. `root` is where `proc` and `sys` are.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for place, name in _memory_groups(root):
        limits += filter(None, (_number(folder / name) for folder in (place, *place.parents)))
    return min(limits)


def keep_little_freed_memory() -> None:
    """Have the C library keep less of what is freed (glibc): threads that begin from now on share a few arenas.

    Each thread would have one of its own, which keeps what was freed in it. Large blocks are in none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def give_freed_memory_back() -> None:
    """Return to the system what this process has freed, as far as the C library can (glibc).

    After large frames each thread that has worked on one would keep tens of megabytes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def exempt_loaded_objects() -> None:
    """Have Python's garbage collector pass over all objects that there are, which live as long as the process.

    A full collection visited the 130,000 objects of libraries and models: 65 ms on an idle core, and longer on a busy
    one, in which no thread of the process runs.
    """
    gc.collect()
    gc.freeze()


def _memory_groups(root: Path) -> list[tuple[Path, str]]:
    """Return the folders of the groups that may limit memory, and the name of the file that holds the limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mounted = root / "sys/fs/cgroup"
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((mounted / path.lstrip("/"), "memory.max"))
        elif "memory" in controllers.split(","):
            found.append((mounted / "memory" / path.lstrip("/"), "memory.limit_in_bytes"))
    return found


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is no such file, or where it says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def free_bytes(folder: Path) -> int:
    """Return the bytes that can be written to the file system of a folder; 0 where the folder is gone or read-only."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return 0 if found.f_flag & os.ST_RDONLY else found.f_bavail * found.f_frsize
