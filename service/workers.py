"""Blocking calls in a few threads, awaited from the event loop; interactive ones go before bulk ones."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from service.lanes import Lane, LaneQueue

R = TypeVar("R")

_MEMORY = 0.9
"""Share of a lane's seconds-per-call average that survives one further call."""


class WorkerPool:
    """`workers` threads. Belongs to one event loop, the one of its callers; may be made before the loop runs."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="locate")
        self._queue: LaneQueue[asyncio.Future[Any], Callable[[], Any]] = LaneQueue()
        self._running = 0
        self._call_s = dict.fromkeys(Lane, 0.0)

    def expected_wait_s(self, lane: Lane) -> float:
        """Seconds until a new call would start, by the average duration of each lane's calls."""
        before = Lane if lane is Lane.BULK else (Lane.INTERACTIVE,)
        return sum(self._queue.depth(each) * self._call_s[each] for each in before) / self._workers

    def run(self, function: Callable[[], R], lane: Lane) -> "asyncio.Future[R]":
        """Have `function()` called; a future that is cancelled while it waits is never run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.push(lane, future, function)
        future.add_done_callback(self._queue.discard)
        # A request that fails elsewhere may never await this one: its error is then nobody's.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._start_waiting(loop)
        return future

    def shutdown(self) -> None:
        """End the threads, after their calls."""
        self._executor.shutdown()

    def _start_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._running < self._workers and self._queue:
            lane = Lane.INTERACTIVE if self._queue.depth(Lane.INTERACTIVE) else Lane.BULK
            future, function = self._queue.pop(lane)
            self._running += 1
            running = loop.run_in_executor(self._executor, function)
            running.add_done_callback(partial(self._settle, future, lane, time.perf_counter()))

    def _settle(self, future: "asyncio.Future[R]", lane: Lane, started: float, ended: "asyncio.Future[R]") -> None:
        """Pass a call's outcome on to whoever awaits it, and start the next one."""
        error = None if ended.cancelled() else ended.exception()
        if ended.cancelled():
            future.cancel()
        elif not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result())
        self._running -= 1
        memory = _MEMORY if self._call_s[lane] else 0.0
        self._call_s[lane] = memory * self._call_s[lane] + (1 - memory) * (time.perf_counter() - started)
        self._start_waiting(ended.get_loop())
