"""Blocking calls in a few threads, awaited from the event loop; interactive ones go before bulk ones."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from service.scheduling.lanes import Lane, LaneQueue
from service.scheduling.watchdog import Watchdog, WatchedCall, WorkerStalled

R = TypeVar("R")

_BULK_EVERY = 16
"""Where both lanes wait, one call in so many is a bulk one: a video gets on, however many frames come."""

_CLOSING_S = 0.025
"""Seconds between two looks whether the last calls have ended."""


@dataclass(eq=False)
class _Running:
    """A call in a thread, and who awaits it."""

    future: "asyncio.Future[Any]"
    lane: Lane
    watched: WatchedCall


class WorkerPool:
    """`workers` threads. Belongs to one event loop, the one of its callers; may be made before the loop runs.

    A call that stalls in one of its steps, by the watchdog, fails with WorkerStalled, though its thread stays occupied.
    While all threads are stalled, whatever waits or comes fails likewise.
    """

    def __init__(self, workers: int, watchdog: Watchdog) -> None:
        self._workers = workers
        self._watchdog = watchdog
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="locate")
        self._queue: LaneQueue[asyncio.Future[Any], Callable[[], Any]] = LaneQueue()
        self._running: set[_Running] = set()
        self._turns = 0

    @property
    def stalled(self) -> bool:
        """True while a call has not ended in time."""
        return any(running.watched.stalled for running in self._running)

    @property
    def blocked(self) -> bool:
        """True while every thread has a call that has not ended in time, so that none takes a new one."""
        return len(self._running) == self._workers and all(running.watched.stalled for running in self._running)

    def depth(self, lane: Lane) -> int:
        """Calls of a lane that wait or run."""
        return self._queue.depth(lane) + sum(running.lane is lane for running in self._running)

    def run(self, function: Callable[[], R], lane: Lane) -> "asyncio.Future[R]":
        """Have `function()` called; a future that is cancelled while it waits is never run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        # A request that fails elsewhere may never await this one: its error is then nobody's.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._queue.push(lane, future, function)
        future.add_done_callback(self._queue.discard)
        if self.blocked:
            future.set_exception(WorkerStalled("earlier calls have not ended"))
        self._start_waiting(loop)
        return future

    async def close(self) -> None:
        """End the threads, after their calls: no new one may come."""
        while self._running:
            await asyncio.sleep(_CLOSING_S)
        self._executor.shutdown()

    def _start_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while len(self._running) < self._workers and self._queue:
            lane = self._next_lane()
            future, function = self._queue.pop(lane)
            watched = self._watchdog.watch(partial(self._give_up, future), only_steps=True)
            running = _Running(future, lane, watched)
            self._running.add(running)
            ended = loop.run_in_executor(self._executor, watched.run, function)
            ended.add_done_callback(partial(self._settle, running))

    def _next_lane(self) -> Lane:
        if not all(map(self._queue.depth, Lane)):
            return Lane.INTERACTIVE if self._queue.depth(Lane.INTERACTIVE) else Lane.BULK
        self._turns += 1
        return Lane.INTERACTIVE if self._turns % _BULK_EVERY else Lane.BULK

    def _settle(self, running: _Running, ended: "asyncio.Future[Any]") -> None:
        """Pass a call's outcome on to whoever awaits it, and start the next one."""
        self._running.discard(running)
        running.watched.ended()
        future = running.future
        if ended.cancelled():
            future.cancel()
        elif not future.done():
            if (error := ended.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result())
        self._start_waiting(ended.get_loop())

    def _give_up(self, stalled: "asyncio.Future[Any]") -> None:
        """A running call has stalled: fail it, and all that waits where no thread is left."""
        lost = [stalled]
        while self.blocked and self._queue:
            lost.append(self._queue.pop(self._next_lane())[0])
        for future in lost:
            if not future.done():
                future.set_exception(WorkerStalled("the call has not ended in time"))
