"""Blocking calls in a few threads, awaited from the event loop; those of an earlier lane go first."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from service.scheduling.lanes import Lane, LaneQueue, first_in_turn
from service.scheduling.watchdog import Watchdog, WatchedCall, WorkerStalled

R = TypeVar("R")

REST_S = 5.0
"""Seconds without a call after which a pool is at rest."""

_CLOSING_S = 0.025
"""Seconds between two looks whether the last calls have ended."""


@dataclass(eq=False)
class _Running:
    """A call in a thread, and who awaits it."""

    future: "asyncio.Future[Any]"
    lane: Lane
    watched: WatchedCall


class WorkerPool:
    """`workers` threads, and one more that interactive calls alone take.

    Calls of any lane start while fewer than `workers` run, so that bulk work alone uses as many threads as other work
    does. Where calls of other lanes occupy them all, the further thread takes one interactive call at a time. So an
    interactive call never waits for another lane's, however long that lasts, and a processor has at most one call more
    than its share.

    A call that stalls in one of its steps, by the watchdog, fails with WorkerStalled, though its thread stays occupied.
    While stalled calls leave no thread to a lane, whatever waits or comes there fails likewise. A pool belongs to one
    event loop, the one of its callers, and may be made before the loop runs.
    """

    def __init__(
        self, workers: int, watchdog: Watchdog, at_rest: Callable[[], None] = lambda: None, rest_s: float = REST_S
    ) -> None:
        """`at_rest` is called in one of the threads, `rest_s` seconds after the last call where no other has come."""
        self._workers = workers
        self._at_rest = at_rest
        self._rest_s = rest_s
        self._resting: asyncio.TimerHandle | None = None
        self._watchdog = watchdog
        self._executor = ThreadPoolExecutor(workers + 1, thread_name_prefix="locate")
        self._queue: LaneQueue[asyncio.Future[Any], Callable[[], Any]] = LaneQueue()
        self._running: set[_Running] = set()
        self._turns = 0

    @property
    def stalled(self) -> bool:
        """True while a call has not ended in time."""
        return any(running.watched.stalled for running in self._running)

    def blocked(self, lane: Lane) -> bool:
        """Return whether calls that have not ended in time leave no thread to a lane."""
        return not self._has_place(lane, [running for running in self._running if running.watched.stalled])

    def depth(self, lane: Lane) -> int:
        """Calls of a lane that wait or run."""
        return self._queue.depth(lane) + sum(running.lane is lane for running in self._running)

    def run(self, function: Callable[[], R], lane: Lane) -> "asyncio.Future[R]":
        """Have `function()` called; a future that is cancelled while it waits is never run."""
        loop = asyncio.get_running_loop()
        self._wake()
        future: asyncio.Future[R] = loop.create_future()
        # A request that fails elsewhere may never await this one: its error is then nobody's.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._queue.push(lane, future, function)
        future.add_done_callback(self._queue.discard)
        if self.blocked(lane):
            future.set_exception(WorkerStalled("earlier calls have not ended"))
        self._start_waiting(loop)
        return future

    async def close(self) -> None:
        """End the threads, after their calls: no new one may come."""
        while self._running:
            await asyncio.sleep(_CLOSING_S)
        self._wake()
        self._executor.shutdown()

    def _start_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while (lane := self._next_lane()) is not None:
            future, function = self._queue.pop(lane)
            watched = self._watchdog.watch(partial(self._give_up, future), only_steps=True)
            running = _Running(future, lane, watched)
            self._running.add(running)
            ended = loop.run_in_executor(self._executor, watched.run, function)
            ended.add_done_callback(partial(self._settle, running))

    def _has_place(self, lane: Lane, running: Collection[_Running]) -> bool:
        """Return whether a call of a lane may run beside these."""
        if len(running) < self._workers:
            return True
        return lane is Lane.INTERACTIVE and all(each.lane is not Lane.INTERACTIVE for each in running)

    def _next_lane(self) -> Lane | None:
        """Return the lane whose call starts next; None if nothing that waits has a place."""
        ready = [lane for lane in Lane if self._queue.depth(lane) and self._has_place(lane, self._running)]
        if len(ready) < 2:
            return ready[0] if ready else None
        self._turns += 1
        return first_in_turn(ready, self._turns)

    def _settle(self, running: _Running, ended: "asyncio.Future[Any]") -> None:
        """Pass a call's outcome on to whoever awaits it, and start the next one."""
        self._running.discard(running)
        running.watched.ended()
        future = running.future
        # An error is looked at even if the caller has left: asyncio logs those that nobody has seen.
        error = None if ended.cancelled() else ended.exception()
        if ended.cancelled():
            future.cancel()
        elif not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result())
        loop = ended.get_loop()
        self._start_waiting(loop)
        if not self._running:
            self._wake()
            self._resting = loop.call_later(self._rest_s, loop.run_in_executor, self._executor, self._at_rest)

    def _wake(self) -> None:
        """Be no more about to rest."""
        if self._resting is not None:
            self._resting.cancel()

    def _give_up(self, stalled: "asyncio.Future[Any]") -> None:
        """A running call has stalled: fail it, and all that waits in a lane to which no thread is left."""
        lost = [stalled]
        for lane in Lane:
            while self.blocked(lane) and self._queue.depth(lane):
                lost.append(self._queue.pop(lane)[0])
        for future in lost:
            if not future.done():
                future.set_exception(WorkerStalled("the call has not ended in time"))
