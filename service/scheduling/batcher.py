"""Items of many concurrent callers, run together in batches by one worker thread, or by several.

`Batcher` knows nothing of what it batches. Its promises:

* results come back in the order of the items, to the caller that submitted them;
* an idle batcher runs at once; while a batch runs, what arrives collects for the next one;
* requests share a batch in turns of one item, and those that have had none yet go first, so that a request of one item
  does not wait for one of many; but one place in four is for the others, see lanes.py;
* interactive items go before live ones, these before bulk ones, and these before background ones;
* a batch takes few items of the later lanes, and few beyond the first of each request, so that they add little to
  another's wait;
* a batch that fails is halved and retried, so that only the items to blame fail, and the worker lives on;
* a batch that was too large for memory lowers the largest size for good;
* of several replicas a free one takes the next batch; each has a thread, a pace and a largest size of its own;
* an item whose caller has gone before its batch was formed never runs;
* accepted items always run unless cancelled; who may come in at all is decided before, see admission.py;
* a batch that does not end in time fails, with all that waits behind it where no other replica runs; what does not
  end at all is reported;
* closing runs what is queued and takes nothing new.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from typing import Generic, ParamSpec, Protocol, TypeVar

from service.scheduling.lanes import FRESH_FIRST, Lane, LaneQueue, first_in_turn
from service.scheduling.replica import BatchLimits, BatchTooLarge, Entry, Replica, WrongResultCount
from service.scheduling.watchdog import Watchdog, WorkerStalled

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")

LATER_LANES = tuple(Lane)[1:]
"""The lanes that fill what pictures leave of a batch."""

logger = logging.getLogger(__name__)


class BatcherClosed(Exception):
    """The batcher takes no new items."""


class BatchObserver(Protocol):
    """Told about batches, on the event loop."""

    def batch(self, size: int, wait_s: Mapping[str, Sequence[float]], run_s: float) -> None:
        """A batch of `size` items has run in `run_s` seconds, with retries.

        `wait_s`: seconds that its items queued, by lane (`interactive`, `live`, `bulk`, `background`). What was
        submitted to each replica is in no lane.
        """
        ...

    def halved(self, size: int) -> None:
        """A run of `size` items failed and is tried again in two halves."""
        ...


class NoObserver:
    """An observer that does nothing."""

    def batch(self, size: int, wait_s: Mapping[str, Sequence[float]], run_s: float) -> None:
        """See BatchObserver."""

    def halved(self, size: int) -> None:
        """See BatchObserver."""


class Batcher(Generic[Item, Result]):
    """Batches calls to `run`, which takes items and returns as many results in their order.

    `run` is called in one thread, never twice at once; `replicas` do the same, each in a thread of its own. Everything
    else belongs to one event loop, the one of the callers; the object may be made before the loop runs. The watchdog
    says when a batch has stalled. `clock` gives the seconds that items wait and batches take.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        watchdog: Watchdog,
        *,
        replicas: Sequence[Callable[[list[Item]], list[Result]]] = (),
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._replicas = [Replica(each, limits, watchdog) for each in (run, *replicas)]
        self._observer = observer or NoObserver()
        self._clock = clock
        self._queue: LaneQueue[asyncio.Future[Result], Entry[Item]] = LaneQueue()
        self._closed = False

    @property
    def queue_depth(self) -> int:
        """Items that wait for a batch; those in the running batch are not counted."""
        return len(self._queue)

    @property
    def stalled(self) -> bool:
        """True while a running batch has not ended in time."""
        return any(replica.stalled for replica in self._replicas)

    @property
    def blocked(self) -> bool:
        """True while every replica has a batch that has not ended in time, so that none takes a new one."""
        return all(replica.stalled for replica in self._replicas)

    async def submit(self, item: Item) -> Result:
        """Run one interactive item; see `submit_many`."""
        return (await self.submit_many([item]))[0]

    async def submit_many(self, items: Sequence[Item], *, lane: Lane = Lane.INTERACTIVE) -> list[Result]:
        """Run all items of one caller and return their results in order; they may be split over batches.

        Raises WorkerStalled, BatcherClosed, or what `run` raised for the first item that failed. A caller
        that is cancelled, or has lost an item, takes its other queued items with it.
        """
        self._refuse_if(self.blocked)
        now = self._clock()
        futures: list[asyncio.Future[Result]] = [asyncio.get_running_loop().create_future() for _ in items]
        request = object()
        for future, item in zip(futures, items, strict=True):
            self._queue.push(lane, future, Entry(item, now, lane), request)
        self._wake()
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                self._queue.discard(future)
                future.cancel()

    async def submit_to_each(self, item: Item) -> list[Result]:
        """Run an item once on every replica, before what waits, and return their results in the order of the replicas.

        Raises WorkerStalled where one has stalled, BatcherClosed, or what the first of them raised that failed.
        """
        self._refuse_if(self.stalled)
        loop = asyncio.get_running_loop()
        entry = Entry(item, self._clock())
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in self._replicas]
        for replica, future in zip(self._replicas, futures, strict=True):
            replica.own[future] = entry
        self._wake()
        try:
            return await asyncio.gather(*futures)
        finally:
            for replica, future in zip(self._replicas, futures, strict=True):
                replica.own.pop(future, None)
                future.cancel()

    async def close(self) -> None:
        """Refuse new items, wait until all queued ones have run, and end the thread. May be called again."""
        self._closed = True
        workers = [replica.worker for replica in self._replicas if replica.worker is not None]
        if workers:
            # `wait` does not cancel the workers when the caller of close is cancelled.
            await asyncio.wait(workers)
        for replica in self._replicas:
            replica.shutdown()

    def _refuse_if(self, stalled: bool) -> None:
        if self._closed:
            raise BatcherClosed("the batcher is closed")
        if stalled:
            raise WorkerStalled("an earlier batch has not ended")

    def _wake(self) -> None:
        """Have idle replicas work; those that find nothing are idle again at once."""
        for replica in self._replicas:
            if replica.idle and (self._queue or replica.own):
                # In an empty context, for a batch belongs to no single request.
                replica.worker = asyncio.get_running_loop().create_task(self._work(replica), context=Context())

    async def _work(self, replica: Replica[Item, Result]) -> None:
        """Run batches until the queue is empty; the next submit starts it anew."""
        while self._queue or replica.own:
            batch = self._take(replica)
            if not batch:
                continue
            started = self._clock()
            waits_s = _waits_s(batch.values(), started)
            await self._run_batch(replica, batch)
            run_s = self._clock() - started
            replica.note(len(batch), run_s)
            self._tell(self._observer.batch, len(batch), waits_s, run_s)

    def _take(self, replica: Replica[Item, Result]) -> dict[asyncio.Future[Result], Entry[Item]]:
        """Remove and return the next batch; a future that is done by now has been cancelled by its caller."""
        batch = {future: entry for future, entry in replica.own.items() if not future.done()}
        replica.own = {}
        # Where interactive items alone fill batches, one other goes along with every other batch: it must get on, too.
        others = sum(map(self._queue.depth, LATER_LANES))
        reserved = 1 if others and replica.max_items > 1 and not replica.ran_others else 0
        most = replica.max_items - reserved
        self._fill(batch, Lane.INTERACTIVE, min(most, self._interactive_places(replica)))
        interactive = len(batch)
        size = max(1, interactive + reserved, replica.most_filled)  # one item may take longer than batches fill
        for lane in self._later_lanes(replica):
            self._fill(batch, lane, size)
        replica.ran_others = len(batch) > interactive
        return batch

    def _interactive_places(self, replica: Replica[Item, Result]) -> int:
        """Return how many interactive items the next batch may have.

        One of each request that has had none joins, whatever that takes, and beside FRESH_FIRST of those one of a
        request that has had some. Where there are not both, further items fill the batch.
        """
        fresh, begun = self._queue.fresh(Lane.INTERACTIVE), self._queue.begun(Lane.INTERACTIVE)
        if fresh and begun:
            return fresh + min(begun, -(-fresh // FRESH_FIRST))
        return max(1, fresh, replica.most_filled)

    def _later_lanes(self, replica: Replica[Item, Result]) -> Sequence[Lane]:
        """Return the lanes behind the first one that wait, in the order of their turns in the next batch."""
        waiting = [lane for lane in LATER_LANES if self._queue.depth(lane)]
        if len(waiting) < 2:
            replica.shared_batches = 0
            return waiting
        replica.shared_batches += 1
        first = first_in_turn(waiting, replica.shared_batches)
        return [first, *(lane for lane in waiting if lane is not first)]

    def _fill(self, batch: dict[asyncio.Future[Result], Entry[Item]], lane: Lane, size: int) -> None:
        while self._queue.depth(lane) and len(batch) < size:
            future, entry = self._queue.pop(lane)
            if not future.done():
                batch[future] = entry

    async def _run_batch(
        self, replica: Replica[Item, Result], batch: dict[asyncio.Future[Result], Entry[Item]]
    ) -> None:
        """Run a batch and settle its futures; after a failure, run what is still awaited in two halves."""
        items = [entry.item for entry in batch.values()]
        outcome = await replica.call(items, lambda: self._give_up(replica, batch))
        if isinstance(outcome, Exception) and len(batch) > 1 and not isinstance(outcome, WrongResultCount):
            if isinstance(outcome, BatchTooLarge):
                replica.max_items = min(replica.max_items, len(batch) // 2)
            self._tell(self._observer.halved, len(batch))
            awaited = [pair for pair in batch.items() if not pair[0].done()]
            middle = (len(awaited) + 1) // 2
            for half in (awaited[:middle], awaited[middle:]):
                if half:
                    await self._run_batch(replica, dict(half))
            return
        for position, future in enumerate(batch):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome[position])

    def _give_up(self, replica: Replica[Item, Result], batch: dict[asyncio.Future[Result], Entry[Item]]) -> None:
        """The running batch has stalled: fail it and all that waits for this replica, or for all where none runs."""
        lost = batch | replica.own
        replica.own = {}
        if all(each.stalled for each in self._replicas):
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


def _waits_s(entries: Iterable[Entry[Item]], started: float) -> dict[str, list[float]]:
    """Seconds that entries waited until `started`, by the name of their lane."""
    waits_s: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if entry.lane is not None:
            waits_s[entry.lane.label].append(started - entry.queued_at)
    return waits_s
