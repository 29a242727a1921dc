"""Watches a service while it is attacked: its memory, its processes and how soon /healthz answers."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOOK_S: Final = 0.05
"""Seconds between two looks."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Footprint:
    """What a process and its descendants hold (Linux)."""

    resident_mb: float
    """Resident memory of all, in MB; pages that several of them share count for each."""
    service_mb: float
    """That of the process alone."""
    processes: int
    descriptors: int
    """Open files of the process alone."""


def footprint(pid: int) -> Footprint:
    """Return what a process and its descendants hold now."""
    family = list(_family(pid))
    return Footprint(
        resident_mb=sum(_resident_mb(each) for each in family),
        service_mb=_resident_mb(pid),
        processes=len(family),
        descriptors=_descriptors(pid),
    )


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(path.parent.name))
    found = [pid]
    while found:
        each = found.pop()
        yield each
        found += children[each]


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
    except (OSError, IndexError):
        return 0.0


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


class Watch:
    """Asks /healthz again and again from a thread of its own, and notes the largest footprint in between.

    >>> with Watch(host, port, pid) as watch:
    ...     watch.reset()
    ...     attack()
    ...     print(watch.slowest_s, watch.peak_mb)
    """

    def __init__(self, host: str, port: int, pid: int | None) -> None:
        """pid: the service's process; None where it is not ours to look at."""
        self._address = host, port
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.slowest_s = 0.0
        """Longest time of an answer of /healthz since the last reset, in seconds."""
        self.failures = 0
        """Times that it did not answer with 200 since the last reset."""
        self.peak_mb = 0.0
        """Largest resident memory of all processes since the last reset, in MB."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def reset(self) -> None:
        """Forget what was seen."""
        self.slowest_s = 0.0
        self.failures = 0
        self.peak_mb = 0.0

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self._ask()
            if self._pid is not None:
                self.peak_mb = max(self.peak_mb, footprint(self._pid).resident_mb)

    def _ask(self) -> None:
        # A connection of its own each time: it is a probe's way, and shows whether new ones are accepted.
        connection = HTTPConnection(*self._address, timeout=30)
        started = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            self.failures += connection.getresponse().status != 200
        except (OSError, HTTPException):
            self.failures += 1
        finally:
            connection.close()
        self.slowest_s = max(self.slowest_s, time.perf_counter() - started)
