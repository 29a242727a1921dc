"""Clients of a running service: so many at a time, or at so many arrivals a second whatever the answers do."""

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2

from benchmarks.process import URL

NO_ANSWER = 0
"""Stands for a status where the connection failed or no answer came in time."""


@dataclass
class Answers:
    """The answers that clients got in `span_s` seconds: the number of each status, and the seconds of each 200.

    failures: what NO_ANSWER was, by the name of the exception.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    faces: int = 0
    span_s: float = 0.0

    def __add__(self, other: "Answers") -> "Answers":
        """Both, one after another."""
        return Answers(
            self.statuses + other.statuses,
            self.failures + other.failures,
            self.seconds + other.seconds,
            self.faces + other.faces,
            self.span_s + other.span_s,
        )

    def faces_per_s(self) -> float:
        """Analysed faces a second."""
        return self.faces / self.span_s

    def of_class(self, hundreds: int) -> int:
        """Return the number of statuses of a class; 5 stands for 500 to 599."""
        return sum(count for status, count in self.statuses.items() if status // 100 == hundreds)


def client(timeout_s: float = 120) -> httpx2.AsyncClient:
    """A client with as many connections as it is asked for."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx2.AsyncClient(timeout=timeout_s, limits=limits)


async def ask(
    http: httpx2.AsyncClient, picture: bytes, answers: Answers, since: float, url: str | None = None
) -> float:
    """Send a frame; its time counts from `since`, of time.perf_counter. Returns the seconds of a Retry-After."""
    try:
        response = await http.post(f"{url or URL}/analyze/frame", files={"file": picture})
    except httpx2.TransportError as error:
        answers.statuses[NO_ANSWER] += 1
        answers.failures[type(error).__name__] += 1
        return 0.0
    answers.statuses[response.status_code] += 1
    if response.status_code == 200:
        answers.seconds.append(time.perf_counter() - since)
        answers.faces += len(response.json()["faces"])
    return float(response.headers.get("retry-after", 0))


async def closed_loop(pictures: Sequence[bytes], clients: int, duration_s: float, url: str | None = None) -> Answers:
    """Each client sends its next frame when it has the answer to its last one, and after Retry-After where it was
    refused, for `duration_s` seconds; all are warmed up before."""
    answers = Answers()
    async with client() as http:
        await asyncio.gather(*(ask(http, pictures[0], Answers(), 0, url) for _ in range(clients)))
        started = time.perf_counter()
        end = started + duration_s

        async def send(number: int) -> None:
            for turn in itertools.count(number):
                since = time.perf_counter()
                if since >= end:
                    return
                again_s = await ask(http, pictures[turn % len(pictures)], answers, since, url)
                # Whoever would come back after the end leaves now: no time counts in which nobody asks.
                await asyncio.sleep(min(again_s, max(0.0, end - time.perf_counter())))

        await asyncio.gather(*(send(number) for number in range(clients)))
        answers.span_s = time.perf_counter() - started
    return answers


def arrivals_s(rate: float, duration_s: float) -> list[float]:
    """Evenly spaced arrivals, in seconds from the start: rate 4 for 0.5 s -> [0, 0.25].

    Raises ValueError where rate or duration is not positive.
    """
    if rate <= 0 or duration_s <= 0:
        raise ValueError("the rate and the duration must be positive")
    return [i / rate for i in range(max(1, round(rate * duration_s)))]


async def open_loop(pictures: Sequence[bytes], rate: float, duration_s: float) -> Answers:
    """Frames arrive at `rate` a second. Times count from the planned arrival, so that a late client hides nothing."""
    answers = Answers()
    async with client() as http, asyncio.TaskGroup() as group:
        started = time.perf_counter()
        for number, offset_s in enumerate(arrivals_s(rate, duration_s)):
            planned = started + offset_s
            await asyncio.sleep(max(0.0, planned - time.perf_counter()))
            group.create_task(ask(http, pictures[number % len(pictures)], answers, planned))
        answers.span_s = duration_s
    return answers


def batches(metrics: str) -> tuple[float, float]:
    """Return the number of forward passes, and of faces in them, that the text of /metrics reports."""
    found = dict(re.findall(r"^affect_batch_size_(count|sum) (\S+)$", metrics, re.M))
    return float(found["count"]), float(found["sum"])


async def batches_so_far() -> tuple[float, float]:
    """`batches` of the running service."""
    async with client() as http:
        return batches((await http.get(f"{URL}/metrics")).raise_for_status().text)


def mean_batch(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Faces in a forward pass between two looks at `batches`; NaN where there was none."""
    passes = after[0] - before[0]
    return (after[1] - before[1]) / passes if passes else float("nan")
