"""Time that passes only when a test says so."""

import asyncio
import time
from collections.abc import Callable

SETTLE = 20
"""Turns of the event loop in which what is ready to run has run."""


class ManualClock:
    """A clock, called for its seconds, with a `sleep` that ends when the test has moved the clock far enough."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Until the clock has been moved on by so many seconds."""
        woken = asyncio.get_running_loop().create_future()
        self._sleeping.append((self.now_s + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move on; whoever's sleep ends on the way wakes at its moment, and may sleep again before the next."""
        until_s = self.now_s + seconds
        await settle()
        while due := [each for each in self._sleeping if each[0] <= until_s + 1e-9 and not each[1].done()]:
            first = min(due, key=lambda each: each[0])
            self._sleeping.remove(first)
            self.now_s = max(self.now_s, first[0])
            first[1].set_result(None)
            await settle()
        self.now_s = until_s


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Let the event loop and the threads go on until the condition holds; TimeoutError where it never does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Let other threads and processes go on until the condition holds; TimeoutError where it never does."""
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.01)


async def settle() -> None:
    """Let everything run that waits for nothing but its turn on the event loop."""
    for _ in range(SETTLE):
        await asyncio.sleep(0)
