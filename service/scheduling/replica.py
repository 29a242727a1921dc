"""One of the workers of a batcher: a function, the thread that runs it, its pace and its largest batch."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.scheduling.batch_contract import BatchLimits, WrongResultCount
from service.scheduling.pace import MovingAverage
from service.scheduling.watchdog import WatchedThread

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry(Generic[Item]):
    """An item that waits, and since when, in seconds of time.perf_counter."""

    item: Item
    queued_at: float


class Replica(Generic[Item, Result]):
    """Runs one batch at a time. All but `run` belongs to one event loop.

    own: items that no other replica may take. max_items: the largest batch that there is memory for.
    """

    def __init__(
        self, run: Callable[[list[Item]], list[Result]], limits: BatchLimits, on_hang: Callable[[], None]
    ) -> None:
        self._run = run
        self._thread = WatchedThread(limits.stall_s, on_hang)
        self._item_s = MovingAverage(most=4)
        self._running_size = 0
        self._running_since = 0.0
        self.max_items = limits.max_items
        self.own: dict[asyncio.Future[Result], Entry[Item]] = {}
        self.worker: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no task takes batches for it."""
        return self.worker is None or self.worker.done()

    @property
    def stalled(self) -> bool:
        """Whether its running batch has not ended in time."""
        return self._thread.stalled

    def item_s(self) -> float:
        """Seconds an item, a moving average. A running batch that is slower counts at its own pace."""
        if not self._running_size:
            return self._item_s.value
        return max(self._item_s.value, (time.perf_counter() - self._running_since) / self._running_size)

    def rest(self) -> float:
        """Items of the running batch that it still has to do, at that pace; 0 without one."""
        item_s = self.item_s()
        if not self._running_size or not item_s:
            return 0.0
        return max(0.0, self._running_size - (time.perf_counter() - self._running_since) / item_s)

    def starts(self, size: int) -> None:
        """A batch of `size` items starts now."""
        self._running_size, self._running_since = size, time.perf_counter()

    def ends(self) -> float:
        """The batch has ended: returns the seconds that it took, with retries."""
        run_s = time.perf_counter() - self._running_since
        self._item_s.note(run_s / self._running_size, self._running_size)
        self._running_size = 0
        return run_s

    async def call(self, items: list[Item], on_stall: Callable[[], None]) -> list[Result] | Exception:
        """Run items in the thread; what `run` raises is returned, so that nothing can end the worker."""
        return await self._thread.call(lambda: self._guarded(items), on_stall)

    def _guarded(self, items: list[Item]) -> list[Result] | Exception:
        try:
            results = self._run(items)
        except StopIteration as error:
            return RuntimeError(f"run raised {error!r}")  # a future refuses to carry a StopIteration
        except Exception as error:
            return error
        if len(results) != len(items):
            return WrongResultCount(f"run returned {len(results)} results for {len(items)} items")
        return results

    def shutdown(self) -> None:
        """End the thread, after its batch."""
        self._thread.shutdown()
