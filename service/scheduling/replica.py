"""One of the workers of a batcher: a function, the thread that runs it, its pace and its largest batch."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from service.scheduling.lanes import Lane
from service.scheduling.pace import MovingAverage
from service.scheduling.watchdog import Watchdog, WatchedCall

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchTooLarge(Exception):
    """Raised by `run`: there was no memory for so many items at once."""


class WrongResultCount(Exception):
    """`run` broke its contract: not one result for each item. The whole batch fails, for none can be told apart."""


@dataclass(frozen=True)
class BatchLimits:
    """The sizes of batches. Raises ValueError where a limit is not positive."""

    max_items: int
    """Most items of a batch."""
    fill_s: float = math.inf
    """Seconds up to which a batch is filled with bulk items and with further items of one request, by the pace so far.

    One item of each new interactive request always may join, some of others, and one bulk item."""

    def __post_init__(self) -> None:
        if not (self.max_items > 0 and self.fill_s > 0):
            raise ValueError("the limits of a batch must be positive")


@dataclass(frozen=True)
class Entry(Generic[Item]):
    """An item that waits, and since when, by the batcher's clock."""

    item: Item
    queued_at: float
    lane: Lane | None = None
    """The lane that it waits in; None for what was submitted to each replica."""


class Replica(Generic[Item, Result]):
    """Runs one batch at a time in a thread of its own. All but `run` belongs to one event loop."""

    def __init__(self, run: Callable[[list[Item]], list[Result]], limits: BatchLimits, watchdog: Watchdog) -> None:
        self._run = run
        self._limits = limits
        self._watchdog = watchdog
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._call: WatchedCall | None = None
        self._item_s = MovingAverage(most=4)
        self.max_items = limits.max_items
        """The largest batch that there is memory for."""
        self.ran_others = False
        """True if items of the lanes behind the first one were in its last batch."""
        self.shared_batches = 0
        """Batches in a row at whose start several of these lanes waited."""
        self.own: dict[asyncio.Future[Result], Entry[Item]] = {}
        """Items that no other replica may take."""
        self.worker: asyncio.Task[None] | None = None
        """The task that takes batches for it, or the last one that did."""

    @property
    def idle(self) -> bool:
        """True while no task takes batches for it."""
        return self.worker is None or self.worker.done()

    @property
    def stalled(self) -> bool:
        """True while its running batch has not ended in time."""
        return self._call is not None and self._call.stalled

    @property
    def most_filled(self) -> int:
        """Up to how many items a batch is filled; a request may come just after its start, and wait for its end."""
        item_s = self._item_s.value
        within = self._limits.fill_s / item_s if item_s else math.inf
        return int(min(within, self.max_items))

    def note(self, size: int, run_s: float) -> None:
        """A batch of `size` items took `run_s` seconds, with retries."""
        self._item_s.note(run_s / size, size)

    async def call(self, items: list[Item], on_stall: Callable[[], None]) -> list[Result] | Exception:
        """Run items in the thread; what `run` raises is returned, so that nothing can end the worker.

        on_stall: called once if the batch does not end in time.
        """
        self._call = self._watchdog.watch(on_stall)
        function = partial(self._call.run, partial(self._guarded, items))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function)
        finally:
            self._call.ended()

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
        self._executor.shutdown()
