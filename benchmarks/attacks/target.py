"""The service that is attacked: one that is started, or one that is there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from benchmarks.attacks.groups import MemoryGroup, memory_group
from benchmarks.process import running_service

READY_S = 600.0
"""Longest time in which the service is ready: an attack may run beside other work, at the lowest priority."""


@dataclass(frozen=True)
class Target:
    """The service that is attacked. Of one that we did not start, only the address is known."""

    url: str
    pid: int | None = None
    group: MemoryGroup | None = None
    log: IO[bytes] | None = None
    """What it writes."""

    def kills(self) -> int:
        """Return how many of its processes the system has ended for lack of memory."""
        return self.group.kills() if self.group else 0

    def errors(self) -> list[str]:
        """Return the lines of its log."""
        if self.log is None:
            return []
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").splitlines()


@contextmanager
def service(url: str | None, memory: int | None, variables: Mapping[str, str]) -> Iterator[Target]:
    """Give a service that is there, or one that is started, in a memory group if one is wanted and can be made."""
    if url is not None:
        yield Target(url)
        return
    with memory_group(memory) if memory else nullcontext() as group, TemporaryFile("w+b") as log:
        if memory:
            print(f"memory: {'a group of at most ' + str(memory) + ' bytes' if group else 'no group can be made here'}")
        settings = {"AFFECT_LOG_LEVEL": "error", **variables}
        prefix = group.prefix if group else ()
        with running_service(prefix=prefix, log=log, ready_s=READY_S, **settings) as process:
            yield Target(process.url, process.pid, group, log)
