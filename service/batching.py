"""Items of many concurrent callers, run together in batches by one worker thread.

`Batcher` knows nothing of what it batches. Its promises:

* results come back in the order of the items, to the caller that submitted them;
* an idle batcher runs at once; while a batch runs, what arrives collects for the next one;
* interactive items go before bulk ones, of which a batch takes few, so that they add little to another's wait;
* a batch that fails is halved and retried, so that only the items to blame fail, and the worker lives on;
* a batch that was too large for memory lowers the largest size for good;
* an item whose caller has gone before its batch was formed never runs;
* the queue is bounded by the time an item would wait in it, not by a length;
* a batch that does not end in time fails, with all that waits behind it; what does not end at all is reported;
* closing runs what is queued and takes nothing new.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from service.averages import MovingAverage
from service.batch_contract import (
    BatcherClosed,
    BatchLimits,
    BatchObserver,
    BatchTooLarge,
    NoObserver,
    QueueFull,
    WorkerStalled,
    WrongResultCount,
)
from service.lanes import Lane, LaneQueue
from service.watched import WatchedThread

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry(Generic[Item]):
    item: Item
    queued_at: float


class Batcher(Generic[Item, Result]):
    """Batches calls to `run`, which takes items and returns as many results in their order.

    `run` is called in one thread, never twice at once. Everything else belongs to one event loop, the one of the
    callers; the object may be made before the loop runs. `on_hang` is called when a batch that stalled has not ended
    after as long again: a thread cannot be ended from outside, so only the process can be.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        *,
        observer: BatchObserver | None = None,
        on_hang: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._limits = limits
        self._max_items = limits.max_items
        self._observer = observer or NoObserver()
        self._thread = WatchedThread(limits.stall_s, on_hang)
        self._queue: LaneQueue[asyncio.Future[Result], _Entry[Item]] = LaneQueue()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._item_s = MovingAverage(most=4)
        self._running_size = 0
        self._running_since = 0.0

    @property
    def queue_depth(self) -> int:
        """Items that wait for a batch; those in the running batch are not counted."""
        return len(self._queue)

    @property
    def stalled(self) -> bool:
        """Whether the running batch has not ended in time."""
        return self._thread.stalled

    def expected_wait_s(self, lane: Lane, coming: float = 0) -> float:
        """Seconds until a new item's batch would start: seconds an item, a moving average, times the items before it.

        These are what the running batch still has to do, what waits, and `coming` items, of callers who will submit
        before. A running batch that is slower than the average counts at its own pace: a stalled one fills the queue.
        """
        item_s, rest_s = self._item_s.value, 0.0
        if self._running_size:
            elapsed_s = time.perf_counter() - self._running_since
            item_s = max(item_s, elapsed_s / self._running_size)
            rest_s = item_s * self._running_size - elapsed_s
        waiting = self._queue.depth(Lane.INTERACTIVE) if lane is Lane.INTERACTIVE else self.queue_depth
        return rest_s + item_s * (waiting + coming)

    async def submit(self, item: Item) -> Result:
        """Run one interactive item; see `submit_many`."""
        return (await self.submit_many([item]))[0]

    async def submit_many(
        self, items: Sequence[Item], *, lane: Lane = Lane.INTERACTIVE, admitted: bool = False
    ) -> list[Result]:
        """Run all items of one caller and return their results in order; they may be split over batches.

        `admitted` items are let in however long the queue is: their caller has passed a bound before.
        Raises QueueFull, WorkerStalled, BatcherClosed, or what `run` raised for the first item that failed. A caller
        that is cancelled, or has lost an item, takes its other queued items with it.
        """
        if self._closed:
            raise BatcherClosed("the batcher is closed")
        if self.stalled:
            raise WorkerStalled("an earlier batch has not ended")
        # Its own items do not count: a request larger than the bound must pass when nothing else waits.
        if not admitted and (wait_s := self.expected_wait_s(lane)) > self._limits.max_wait_s:
            raise QueueFull(wait_s - self._limits.max_wait_s)
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        for future, item in zip(futures, items, strict=True):
            self._queue.push(lane, future, _Entry(item, now))
        if self._queue and (self._worker is None or self._worker.done()):
            # In an empty context, for a batch belongs to no single request.
            self._worker = loop.create_task(self._work(), context=Context())
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                self._queue.discard(future)
                future.cancel()

    async def close(self) -> None:
        """Refuse new items, wait until all queued ones have run, and end the thread. May be called again."""
        self._closed = True
        if self._worker is not None:
            # `wait` does not cancel the worker when the caller of close is cancelled.
            await asyncio.wait([self._worker])
        self._thread.shutdown()

    async def _work(self) -> None:
        """Run batches until the queue is empty; the next submit starts it anew."""
        while self._queue:
            batch = self._take()
            if not batch:
                continue
            started = time.perf_counter()
            self._running_size, self._running_since = len(batch), started
            try:
                await self._run_batch(batch)
            finally:
                self._running_size = 0
            run_s = time.perf_counter() - started
            self._item_s.note(run_s / len(batch), len(batch))
            waits_s = [started - entry.queued_at for entry in batch.values()]
            self._tell(self._observer.batch, len(batch), waits_s, run_s)

    def _take(self) -> dict[asyncio.Future[Result], _Entry[Item]]:
        """Remove and return the next batch; a future that is done by now has been cancelled by its caller."""
        batch: dict[asyncio.Future[Result], _Entry[Item]] = {}
        # Where interactive items alone fill batches, one bulk item still goes along: it must get on, too.
        reserved = 1 if self._queue.depth(Lane.BULK) and self._max_items > 1 else 0
        self._fill(batch, Lane.INTERACTIVE, self._max_items - reserved)
        self._fill(batch, Lane.BULK, max(len(batch) + reserved, min(self._limits.max_bulk, self._max_items)))
        return batch

    def _fill(self, batch: dict[asyncio.Future[Result], _Entry[Item]], lane: Lane, size: int) -> None:
        while self._queue.depth(lane) and len(batch) < size:
            future, entry = self._queue.pop(lane)
            if not future.done():
                batch[future] = entry

    async def _run_batch(self, batch: dict[asyncio.Future[Result], _Entry[Item]]) -> None:
        """Run a batch and settle its futures; after a failure, run what is still awaited in two halves."""
        items = [entry.item for entry in batch.values()]
        outcome = await self._thread.call(lambda: self._guarded(items), lambda: self._give_up(batch))
        if isinstance(outcome, Exception) and len(batch) > 1 and not isinstance(outcome, WrongResultCount):
            if isinstance(outcome, BatchTooLarge):
                self._max_items = min(self._max_items, len(batch) // 2)
            self._tell(self._observer.halved, len(batch))
            awaited = [pair for pair in batch.items() if not pair[0].done()]
            middle = (len(awaited) + 1) // 2
            for half in (awaited[:middle], awaited[middle:]):
                if half:
                    await self._run_batch(dict(half))
            return
        for position, future in enumerate(batch):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome[position])

    def _guarded(self, items: list[Item]) -> list[Result] | Exception:
        """Call `run` in the worker thread; what it raises is returned, so that nothing can end the worker."""
        try:
            results = self._run(items)
        except StopIteration as error:
            return RuntimeError(f"run raised {error!r}")  # a future refuses to carry a StopIteration
        except Exception as error:
            return error
        if len(results) != len(items):
            return WrongResultCount(f"run returned {len(results)} results for {len(items)} items")
        return results

    def _give_up(self, batch: dict[asyncio.Future[Result], _Entry[Item]]) -> None:
        """The running batch has stalled: fail it and all that waits behind it."""
        lost = dict(batch)
        for lane in Lane:
            self._fill(lost, lane, len(lost) + self.queue_depth)
        for future in lost:
            if not future.done():
                future.set_exception(WorkerStalled("the batch has not ended in time"))

    def _tell(self, notice: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            notice(*args, **kwargs)
        except Exception:
            logger.exception("the batch observer failed")
