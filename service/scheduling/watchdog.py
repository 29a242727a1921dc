"""Threads that may hang: who notices, and says so.

Time is counted in ticks of the event loop, not by a clock: a process that was stopped for a while comes back to one
late tick, not to a stalled call.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")

TICK_S = 0.25


class WatchedThread:
    """Runs one call at a time in a thread of its own, on behalf of an event loop.

    A call that has not ended after `stall_s` seconds makes it `stalled`; after as long again `on_hang` is called, for a
    thread cannot be ended from outside. A call that ends after all clears the state.
    """

    def __init__(self, stall_s: float, on_hang: Callable[[], None]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._stall_s = stall_s
        self._on_hang = on_hang
        self.stalled = False

    async def call(self, function: Callable[[], R], on_stall: Callable[[], None]) -> R:
        """Await `function()`; `on_stall` is called once if it does not end in time."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        for notice in (on_stall, self._on_hang):
            if await _ends(running, self._stall_s):
                break
            self.stalled = True
            notice()
        result = await running
        self.stalled = False
        return result

    def shutdown(self) -> None:
        """End the thread, after its call."""
        self._executor.shutdown()


async def _ends(running: "asyncio.Future[R]", within_s: float) -> bool:
    waited_s = 0.0
    while waited_s < within_s:
        tick_s = min(TICK_S, within_s - waited_s)
        await asyncio.wait([running], timeout=tick_s)
        if running.done():
            return True
        waited_s += tick_s
    return False
