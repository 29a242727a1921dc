"""Watches a service while it is attacked: its memory, its processes and how soon /healthz answers."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

LOOK_S: Final = 0.05
"""Seconds between two looks."""

_NICENESS: Final = -10
"""Priority of the process that watches, where it may have one: its own wait for a core is not the service's delay."""

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


@dataclass(frozen=True)
class Seen:
    """What was seen of a service since it was looked at before."""

    slowest_s: float = 0.0
    """Longest time of an answer of /healthz, in seconds."""
    failures: int = 0
    """Times that it did not answer with 200."""
    peak_mb: float = 0.0
    """Largest resident memory of all processes, in MB."""


class Watch:
    """Watches a service from a process of its own, since the attacker's threads would keep one of its own waiting.

    >>> with Watch(host, port, pid) as watch:
    ...     watch.seen()
    ...     attack()
    ...     print(watch.seen().slowest_s)
    """

    def __init__(self, host: str, port: int, pid: int | None) -> None:
        """pid: the service's process; None where it is not ours to look at."""
        words = [host, str(port), *([] if pid is None else [str(pid)])]
        self._command = [sys.executable, "-m", "benchmarks.attacks.watching", *words]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seen()  # it has begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # the end of its input is its end

    def seen(self) -> Seen:
        """Return what was seen since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Seen(**json.loads(self._process.stdout.readline()))


class _Looks:
    """Asks /healthz again and again, and notes the largest footprint in between."""

    def __init__(self, host: str, port: int, pid: int | None) -> None:
        self._address = host, port
        self._pid = pid
        self._seen = Seen()
        self._seeing = threading.Lock()

    def take(self) -> Seen:
        """Return what was seen since the last call."""
        with self._seeing:
            seen, self._seen = self._seen, Seen()
        return seen

    def run(self) -> NoReturn:
        """Look for ever."""
        while True:
            look = self._look()
            with self._seeing:
                self._seen = Seen(
                    max(self._seen.slowest_s, look.slowest_s),
                    self._seen.failures + look.failures,
                    max(self._seen.peak_mb, look.peak_mb),
                )
            time.sleep(LOOK_S)

    def _look(self) -> Seen:
        # A connection of its own each time: it is a probe's way, and shows whether new ones are accepted.
        connection = HTTPConnection(*self._address, timeout=30)
        started = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            answered = connection.getresponse().status == 200
        except (OSError, HTTPException):
            answered = False
        finally:
            connection.close()
        seconds = time.perf_counter() - started
        return Seen(seconds, not answered, 0.0 if self._pid is None else footprint(self._pid).resident_mb)


def main() -> None:
    """Watch the service whose host, port and perhaps process are the arguments, until the end of the input.

    Each line of the input is answered with a line of what was seen since the one before, as JSON.
    """
    with suppress(PermissionError):
        os.nice(_NICENESS)
    host, port, *pid = sys.argv[1:]
    looks = _Looks(host, int(port), int(pid[0]) if pid else None)
    threading.Thread(target=looks.run, daemon=True).start()
    for _ in sys.stdin:
        print(json.dumps(asdict(looks.take())), flush=True)


if __name__ == "__main__":
    main()
