"""A memory cgroup for the service, as a container gives it one: beyond the limit the system ends processes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOTS: Final = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
)
"""Where groups are made, the file of the limit, and that of how often it was met: in version 1 of cgroups, and in 2."""


@dataclass(frozen=True)
class MemoryGroup:
    """A group of processes with a bound on their memory, page cache included."""

    folder: Path
    events: str
    """Name of the file that counts the processes which the system ended."""

    @property
    def prefix(self) -> Sequence[str]:
        """The beginning of a command that makes the rest of it run in the group."""
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"))

    def kills(self) -> int:
        """Return how many processes the system has ended for lack of memory."""
        lines = dict(line.split(" ", 1) for line in (self.folder / self.events).read_text().splitlines())
        return int(lines.get("oom_kill", 0))


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup | None]:
    """Make a group with a limit in bytes for the length of the block; None where the machine does not let us."""
    group = _made(limit)
    try:
        yield group
    finally:
        if group is not None:
            with suppress(OSError):  # a process that is just ending is still in it
                group.folder.rmdir()


def _made(limit: int) -> MemoryGroup | None:
    for root, limit_file, events in ROOTS:
        if not (root / "cgroup.procs").exists():
            continue
        folder = root / f"affect-attacks-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit_file).write_text(str(limit))
        except OSError:
            with suppress(OSError):
                folder.rmdir()
        else:
            return MemoryGroup(folder, events)
    return None
