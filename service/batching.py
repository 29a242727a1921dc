"""Items of many concurrent callers, run together in batches by one worker thread.

`Batcher` knows nothing of what it batches. Its promises:

* results come back in the order of the items, to the caller that submitted them;
* an idle batcher runs at once; while a batch runs, what arrives collects for the next one, in order of arrival;
* a batch that fails is retried item by item, so that only the items to blame fail, and the worker lives on;
* an item whose caller has gone before its batch was formed never runs;
* the queue is bounded by the time an item would wait in it, not by a length;
* closing runs what is queued and takes nothing new.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_MEMORY = 0.9
"""Share of the seconds-per-item average that survives one further item."""


class BatcherClosed(Exception):
    """The batcher takes no new items."""


class QueueFull(Exception):
    """The expected wait exceeds the bound; in `retry_after_s` seconds the queue will have shrunk to it."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the queue is full; retry in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class WrongResultCount(Exception):
    """`run` broke its contract: not one result for each item. The whole batch fails, for none can be told apart."""


class BatchObserver(Protocol):
    """Told about each batch, on the event loop, after its callers have their results."""

    def batch(self, size: int, wait_s: Sequence[float], run_s: float) -> None:
        """`wait_s`: seconds each of the `size` items queued; `run_s`: seconds the batch ran, retries included."""
        ...


@dataclass(frozen=True)
class _Entry(Generic[Item]):
    item: Item
    queued_at: float


class Batcher(Generic[Item, Result]):
    """Batches calls to `run`, which takes 1 to `max_batch` items and returns as many results in their order.

    `run` is called in one thread, never twice at once. Everything else belongs to one event loop, the one of the
    callers; the object may be made before the loop runs. `max_wait_s` is the longest expected wait in the queue.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        *,
        max_batch: int,
        max_wait_s: float,
        observer: BatchObserver | None = None,
    ) -> None:
        if max_batch < 1 or not max_wait_s > 0:
            raise ValueError("max_batch and max_wait_s must be positive")
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._observer = observer
        # A dict keeps the order of arrival and lets a cancelled item leave in O(1).
        self._queue: dict[asyncio.Future[Result], _Entry[Item]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._item_s = 0.0
        self._running_size = 0
        self._running_since = 0.0

    @property
    def queue_depth(self) -> int:
        """Items that wait for a batch; those in the running batch are not counted."""
        return len(self._queue)

    @property
    def expected_wait_s(self) -> float:
        """Seconds until a new item's batch would start: seconds per item, a moving average, times the queue's depth.

        A running batch that is slower than the average counts at its own pace, so a stalled one fills the queue.
        """
        item_s = self._item_s
        if self._running_size:
            item_s = max(item_s, (time.perf_counter() - self._running_since) / self._running_size)
        return item_s * self.queue_depth

    async def submit(self, item: Item) -> Result:
        """Run one item; see `submit_many`."""
        return (await self.submit_many([item]))[0]

    async def submit_many(self, items: Sequence[Item], *, admitted: bool = False) -> list[Result]:
        """Run all items of one caller and return their results in order; they may be split over batches.

        `admitted` items are let in however long the queue is: a caller's later ones, whose first had to pass the bound.
        Raises QueueFull, BatcherClosed, or what `run` raised for the first item that failed. A caller that is
        cancelled, or has lost an item, takes its other queued items with it.
        """
        if self._closed:
            raise BatcherClosed("the batcher is closed")
        # Its own items do not count: a request larger than the bound must pass when nothing else waits.
        if not admitted and (wait_s := self.expected_wait_s) > self._max_wait_s:
            raise QueueFull(wait_s - self._max_wait_s)
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._queue.update(zip(futures, (_Entry(item, now) for item in items), strict=True))
        if self._queue and (self._worker is None or self._worker.done()):
            # In an empty context, for a batch belongs to no single request.
            self._worker = loop.create_task(self._work(), context=Context())
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                self._queue.pop(future, None)
                future.cancel()

    async def close(self) -> None:
        """Refuse new items, wait until all queued ones have run, and end the thread. May be called again."""
        self._closed = True
        if self._worker is not None:
            # `wait` does not cancel the worker when the caller of close is cancelled.
            await asyncio.wait([self._worker])
        self._executor.shutdown()

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
            memory = _MEMORY ** len(batch) if self._item_s else 0.0
            self._item_s = memory * self._item_s + (1 - memory) * run_s / len(batch)
            self._report([started - entry.queued_at for entry in batch.values()], run_s)

    def _take(self) -> dict[asyncio.Future[Result], _Entry[Item]]:
        """Remove and return the next batch; a future that is done by now has been cancelled by its caller."""
        batch: dict[asyncio.Future[Result], _Entry[Item]] = {}
        while self._queue and len(batch) < self._max_batch:
            future = next(iter(self._queue))
            entry = self._queue.pop(future)
            if not future.done():
                batch[future] = entry
        return batch

    async def _run_batch(self, batch: dict[asyncio.Future[Result], _Entry[Item]]) -> None:
        """Run a batch and settle its futures; after a failure, run those still awaited one by one."""
        items = [entry.item for entry in batch.values()]
        outcome = await asyncio.get_running_loop().run_in_executor(self._executor, self._guarded, items)
        if isinstance(outcome, Exception) and len(batch) > 1 and not isinstance(outcome, WrongResultCount):
            for future, entry in batch.items():
                if not future.done():
                    await self._run_batch({future: entry})
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

    def _report(self, wait_s: list[float], run_s: float) -> None:
        if self._observer is None:
            return
        try:
            self._observer.batch(len(wait_s), wait_s, run_s)
        except Exception:
            logger.exception("the batch observer failed")
