"""`python -m benchmarks.fairness`: whether clients share the service as it promises.

Clients with one-face pictures, alone and beside clients whose pictures show 64 faces; clients that are refused, and
come back when they were told to; and a folder of photographs, four at a time.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median

import cv2
import httpx2
import torch

from benchmarks.attacks.seeds import photograph
from benchmarks.concurrency import pictures
from benchmarks.load import NO_ANSWER, Answers, client, closed_loop
from benchmarks.process import URL, running_service
from benchmarks.reporting import circumstances, section, table
from benchmarks.streams import crowd

ROUTE = "/analyze/frame"
FACES = 64
"""Faces of a crowd's picture."""


@dataclass(frozen=True)
class Plan:
    """Extent of a measurement."""

    rounds: int = 3
    """Times that a load is measured alone and beside the crowd, in turns."""
    load_s: float = 10.0
    """Seconds of each."""
    small: int = 2
    """Clients with one-face pictures, and as many with a crowd's."""
    returning: tuple[int, ...] = (16, 64, 256)
    """Numbers of clients that come back as they are told."""
    returning_s: float = 30.0
    photographs: int = 64
    at_once: int = 4
    """Photographs that are sent at a time."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further AFFECT_ variables of the service."""


QUICK = Plan(rounds=1, load_s=0.2, returning=(4,), returning_s=0.2, photographs=4)


async def post(http: httpx2.AsyncClient, content: bytes, query: str = "") -> tuple[int, float]:
    """Send a picture; return the status, NO_ANSWER without one, and the seconds of a Retry-After."""
    try:
        response = await http.post(f"{URL}{ROUTE}{query}", files={"file": content})
    except httpx2.TransportError:
        return NO_ANSWER, 0.0
    return response.status_code, float(response.headers.get("retry-after", 0))


@asynccontextmanager
async def crowded(clients: int, answered: Counter[int]) -> AsyncIterator[None]:
    """Let so many clients send pictures of FACES faces, one after another, for the length of the block."""
    picture = cv2.imencode(".jpg", crowd(0))[1].tobytes()

    async def send(http: httpx2.AsyncClient) -> None:
        while True:
            status, again_s = await post(http, picture, f"?max_faces={FACES}")
            answered[status] += 1
            await asyncio.sleep(again_s)

    async with client() as http:
        tasks = [asyncio.create_task(send(http)) for _ in range(clients)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def beside_crowds(sent: Sequence[bytes], plan: Plan) -> str:
    """Measure clients with one-face pictures alone, and beside as many with a crowd's."""
    alone, beside, crowds = Answers(), Answers(), Counter[int]()
    kept = []
    for _ in range(plan.rounds):
        before = await closed_loop(sent, plan.small, plan.load_s)
        async with crowded(plan.small, crowds):
            among = await closed_loop(sent, plan.small, plan.load_s)
        kept.append(among.faces_per_s() / before.faces_per_s())
        alone, beside = alone + before, beside + among
    return crowds_table(alone, beside, crowds, median(kept))


def crowds_table(alone: Answers, beside: Answers, crowds: Mapping[int, int], kept: float) -> str:
    """A row for one-face clients alone, one beside crowds, and the median share that they keep."""
    rows = [
        ("alone", alone.faces_per_s(), alone.statuses[429], "-", "-"),
        (f"beside pictures of {FACES} faces", beside.faces_per_s(), beside.statuses[429], crowds.get(200, 0), kept),
    ]
    return table(("one-face clients", "faces/s", "429", "crowds answered", "share kept"), rows)


async def returning(sent: Sequence[bytes], clients: int, seconds: float) -> Counter[int]:
    """Let clients send one picture after another, and come back as told; count the statuses that they get then."""
    returns: Counter[int] = Counter()
    end_s = time.perf_counter() + seconds

    async def send(http: httpx2.AsyncClient, number: int) -> None:
        told = False
        while time.perf_counter() < end_s:
            status, again_s = await post(http, sent[number % len(sent)])
            if told:
                returns[status] += 1
            told = status == 429
            await asyncio.sleep(min(again_s, max(0.0, end_s - time.perf_counter())))

    async with client() as http, asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(send(http, number))
    return returns


def returns_table(returns: Mapping[int, Counter[int]]) -> str:
    """A row for each number of clients; the share is NaN where nobody had to come back."""
    rows = [
        (clients, each.total(), each[200] / each.total() if each else float("nan")) for clients, each in returns.items()
    ]
    return table(("clients", "came back as told", "of them answered"), rows)


async def folder(count: int, at_once: int) -> Counter[int]:
    """Send a photograph so many times, some at a time, and none again; return how often each status came."""
    content = photograph().content
    numbers = iter(range(count))
    statuses: Counter[int] = Counter()

    async def send(http: httpx2.AsyncClient) -> None:
        for _ in numbers:
            statuses[(await post(http, content))[0]] += 1

    async with client() as http:
        await asyncio.gather(*(send(http) for _ in range(at_once)))
    return statuses


def measure(plan: Plan) -> str:
    """The markdown section."""
    sent = pictures(16)
    with running_service(**plan.variables):
        crowds = asyncio.run(beside_crowds(sent, plan))
        returns = {clients: asyncio.run(returning(sent, clients, plan.returning_s)) for clients in plan.returning}
        statuses = asyncio.run(folder(plan.photographs, plan.at_once))
    told = ", ".join(f"{count} answers of {status}" for status, count in sorted(statuses.items()))
    photographs = f"{plan.photographs} photographs of 12 megapixels, {plan.at_once} at a time: {told}."
    settings = ", ".join(f"{name}={value}" for name, value in plan.variables.items()) or "The default settings."
    return section("Fairness", settings, crowds, returns_table(returns), photographs)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument(
        "--set", action="append", default=[], metavar="AFFECT_NAME=VALUE", help="a variable of the service"
    )
    parser.add_argument("--quick", action="store_true", help="a moment of each: does it run at all?")
    args = parser.parse_args()
    variables = dict(pair.split("=", 1) for pair in args.set)
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(replace(QUICK if args.quick else Plan(), variables=variables)))


if __name__ == "__main__":
    main()
