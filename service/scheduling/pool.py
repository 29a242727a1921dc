"""Blocking calls in a few threads, awaited from the event loop; interactive ones go before bulk ones."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, TypeVar

from service.scheduling.batch_contract import WorkerStalled
from service.scheduling.lanes import Lane, LaneQueue
from service.scheduling.pace import MovingAverage
from service.scheduling.watchdog import TICK_S

R = TypeVar("R")

_BULK_EVERY = 16
"""Where both lanes wait, one call in so many is a bulk one: a video gets on, however many frames come."""


@dataclass(eq=False)
class _Running:
    """A call in a thread: the `step` that it was last seen in, and for how many seconds of ticks."""

    future: "asyncio.Future[Any]"
    lane: Lane
    started: float
    thread: int | None = None
    step: int | None = None
    still_s: float = 0.0

    def call(self, function: Callable[[], R]) -> R:
        self.thread = get_ident()
        return function()


class WorkerPool:
    """`workers` threads. Belongs to one event loop, the one of its callers; may be made before the loop runs.

    step_of: which step that must end, by a number, a thread is in; None where it is in none, which bulk calls alone may
    be for long. A call that stays where it is for `stall_s` seconds fails with WorkerStalled, though its thread stays
    occupied; after as long again `on_hang` is called. While all threads are stalled, whatever waits or comes fails
    likewise.
    """

    def __init__(
        self,
        workers: int,
        stall_s: float = 30,
        step_of: Callable[[int], int | None] = lambda thread: None,
        on_hang: Callable[[], None] = lambda: None,
    ) -> None:
        self._workers = workers
        self._stall_s = stall_s
        self._step_of = step_of
        self._on_hang = on_hang
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="locate")
        self._queue: LaneQueue[asyncio.Future[Any], Callable[[], Any]] = LaneQueue()
        self._running: set[_Running] = set()
        self._call_s = {lane: MovingAverage(most=4) for lane in Lane}
        self._turns = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def stalled(self) -> bool:
        """Whether a call has not ended in time."""
        return any(map(self._is_stalled, self._running))

    def depth(self, lane: Lane) -> int:
        """Calls of a lane that wait or run."""
        return self._queue.depth(lane) + sum(running.lane is lane for running in self._running)

    def expected_wait_s(self, lane: Lane) -> float:
        """Seconds until a new call would start, by the average duration of each lane's calls."""
        before = Lane if lane is Lane.BULK else (Lane.INTERACTIVE,)
        return sum(self._queue.depth(each) * self._call_s[each].value for each in before) / self._workers

    def run(self, function: Callable[[], R], lane: Lane) -> "asyncio.Future[R]":
        """Have `function()` called; a future that is cancelled while it waits is never run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        # A request that fails elsewhere may never await this one: its error is then nobody's.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._queue.push(lane, future, function)
        future.add_done_callback(self._queue.discard)
        if self._blocked():
            future.set_exception(WorkerStalled("earlier calls have not ended"))
        self._start_waiting(loop)
        return future

    async def close(self) -> None:
        """End the threads, after their calls: no new one may come."""
        while self._running:
            await asyncio.sleep(TICK_S / 10)
        if self._watcher is not None:
            self._watcher.cancel()
        self._executor.shutdown()

    def _start_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while len(self._running) < self._workers and self._queue:
            lane = self._next_lane()
            future, function = self._queue.pop(lane)
            running = _Running(future, lane, time.perf_counter())
            self._running.add(running)
            ended = loop.run_in_executor(self._executor, running.call, function)
            ended.add_done_callback(partial(self._settle, running))
        if self._running and (self._watcher is None or self._watcher.done()):
            self._watcher = loop.create_task(self._watch(), context=Context())

    def _next_lane(self) -> Lane:
        if not all(map(self._queue.depth, Lane)):
            return Lane.INTERACTIVE if self._queue.depth(Lane.INTERACTIVE) else Lane.BULK
        self._turns += 1
        return Lane.INTERACTIVE if self._turns % _BULK_EVERY else Lane.BULK

    def _settle(self, running: _Running, ended: "asyncio.Future[Any]") -> None:
        """Pass a call's outcome on to whoever awaits it, and start the next one."""
        self._running.discard(running)
        future, error = running.future, None if ended.cancelled() else ended.exception()
        if ended.cancelled():
            future.cancel()
        elif not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result())
        self._call_s[running.lane].note(time.perf_counter() - running.started)
        self._start_waiting(ended.get_loop())

    async def _watch(self) -> None:
        """Look at the running calls, tick by tick, until none runs."""
        while self._running:
            await asyncio.sleep(TICK_S)
            for running in self._running:
                self._look_at(running)

    def _look_at(self, running: _Running) -> None:
        step = None if running.thread is None else self._step_of(running.thread)
        if step != running.step or (step is None and running.lane is Lane.BULK):
            running.step, running.still_s = step, 0.0
            return
        before_s, running.still_s = running.still_s, running.still_s + TICK_S
        if before_s < self._stall_s <= running.still_s:
            lost = [running.future]
            while self._blocked() and self._queue:
                lost.append(self._queue.pop(self._next_lane())[0])
            for future in lost:
                if not future.done():
                    future.set_exception(WorkerStalled("the call has not ended in time"))
        if before_s < 2 * self._stall_s <= running.still_s:
            self._on_hang()

    def _is_stalled(self, running: _Running) -> bool:
        return running.still_s >= self._stall_s

    def _blocked(self) -> bool:
        return len(self._running) == self._workers and all(map(self._is_stalled, self._running))
