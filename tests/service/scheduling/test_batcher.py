import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scheduling.batcher import Batcher, BatcherClosed, NoObserver
from service.scheduling.lanes import Lane
from service.scheduling.replica import BatchLimits, BatchTooLarge, WrongResultCount
from service.scheduling.watchdog import Watchdog, WorkerStalled
from tests.service.scheduling.clocks import ManualClock, settle, until


class Gate:
    """A `run` that doubles numbers, remembers its batches, and waits for `open` where it starts closed."""

    def __init__(self, *, closed: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.entered = threading.Event()
        if not closed:
            self.open.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.open.wait(5)
        if 13 in items:
            raise ValueError("13 is poisoned")
        return [2 * item for item in items]


class Notes:
    def __init__(self) -> None:
        self.seen: list[tuple[int, Mapping[str, Sequence[float]], float]] = []
        self.halvings: list[int] = []

    def batch(self, size: int, wait_s: Mapping[str, Sequence[float]], run_s: float) -> None:
        self.seen.append((size, wait_s, run_s))

    def halved(self, size: int) -> None:
        self.halvings.append(size)


def batcher(
    run: Callable[[list[int]], list[int]],
    *,
    max_batch: int = 4,
    watchdog: Watchdog | None = None,
    notes: Notes | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Batcher[int, int]:
    return Batcher(run, BatchLimits(max_batch), watchdog or Watchdog(), observer=notes, clock=clock)


async def occupied(gate: Gate, queue: Batcher[int, int]) -> "asyncio.Task[int]":
    """Submit item 0 and wait until it runs, behind the closed gate."""
    first = asyncio.create_task(queue.submit(0))
    await asyncio.to_thread(gate.entered.wait, 5)
    return first


def test_results_come_back_in_order_and_large_requests_are_split() -> None:
    async def story() -> None:
        gate = Gate()
        queue = batcher(gate)
        assert await queue.submit_many(range(10)) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
        assert gate.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert await queue.submit_many([]) == []
        await queue.close()

    asyncio.run(story())


def test_an_idle_batcher_runs_at_once_and_what_arrives_meanwhile_shares_the_next_batches() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate)
        first = await occupied(gate, queue)
        others = [asyncio.create_task(queue.submit(item)) for item in range(1, 7)]
        await asyncio.sleep(0)
        assert queue.queue_depth == 6
        gate.open.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10, 12]
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert len(gate.threads) == 1
        assert gate.threads != {threading.get_ident()}
        await queue.close()

    asyncio.run(story())


def test_a_poisoned_item_fails_alone_and_the_worker_lives_on() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate)
        first = await occupied(gate, queue)
        others = [asyncio.create_task(queue.submit(item)) for item in (1, 13, 2)]
        await asyncio.sleep(0)
        gate.open.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [results[0], results[1], results[3]] == [0, 2, 4]
        assert isinstance(results[2], ValueError)
        assert str(results[2]) == "13 is poisoned"
        assert gate.batches == [[0], [1, 13, 2], [1, 13], [1], [13], [2]]
        assert await queue.submit(5) == 10
        await queue.close()

    asyncio.run(story())


def test_a_request_that_lost_an_item_fails_and_takes_its_queued_items_along() -> None:
    async def story() -> None:
        gate = Gate()
        queue = batcher(gate, max_batch=1)
        with pytest.raises(ValueError, match="13 is poisoned"):
            await queue.submit_many([1, 13, 2, 3])
        assert queue.queue_depth == 0
        await queue.close()
        assert [3] not in gate.batches

    asyncio.run(story())


@pytest.mark.parametrize("error", [StopIteration(), asyncio.InvalidStateError(), MemoryError()])
def test_no_exception_ends_the_worker(error: Exception) -> None:
    async def story() -> None:
        def run(items: list[int]) -> list[int]:
            if items == [1]:
                raise error
            return items

        queue = batcher(run)
        (outcome,) = await asyncio.gather(asyncio.wait_for(queue.submit(1), 5), return_exceptions=True)
        # A future refuses to carry a StopIteration.
        assert type(outcome) is (RuntimeError if isinstance(error, StopIteration) else type(error))
        assert await queue.submit(2) == 2
        await queue.close()

    asyncio.run(story())


def test_a_wrong_number_of_results_fails_its_batch() -> None:
    async def story() -> None:
        queue = batcher(lambda items: items[:1])
        with pytest.raises(WrongResultCount, match="run returned 1 results for 3 items"):
            await queue.submit_many([1, 2, 3])
        assert await queue.submit(7) == 7
        await queue.close()

    asyncio.run(story())


def test_items_of_a_caller_that_left_never_run() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate)
        first = await occupied(gate, queue)
        gone = asyncio.create_task(queue.submit_many([1, 2]))
        stays = asyncio.create_task(queue.submit(3))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert queue.queue_depth == 1
        late = asyncio.create_task(queue.submit(4))
        await asyncio.sleep(0)
        late.cancel()  # noticed by the worker before the caller itself could clean up
        gate.open.set()
        assert (await first, await stays) == (0, 6)
        await queue.close()
        assert gate.batches == [[0], [3]]

    asyncio.run(story())


def test_a_deadline_is_a_cancellation() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate)
        first = await occupied(gate, queue)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.submit(1), 0.01)
        gate.open.set()
        assert await first == 0
        await queue.close()
        assert gate.batches == [[0]]

    asyncio.run(story())


def test_closing_runs_what_is_queued_and_takes_nothing_new() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate)
        first = await occupied(gate, queue)
        second = asyncio.create_task(queue.submit_many([1, 2, 3, 4, 5]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0)
        with pytest.raises(BatcherClosed):
            await queue.submit(6)
        assert not closing.done()
        gate.open.set()
        await closing
        assert (await first, await second) == (0, [2, 4, 6, 8, 10])
        await queue.close()
        assert all(thread.ident not in gate.threads for thread in threading.enumerate())

    asyncio.run(story())


def test_the_observer_sees_each_batch_and_its_failure_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        gate, notes, clock = Gate(closed=True), Notes(), ManualClock()
        queue = batcher(gate, notes=notes, clock=clock)
        first = await occupied(gate, queue)
        await clock.advance(1)
        second = asyncio.create_task(queue.submit_many([1, 2]))
        await clock.advance(1)
        bulk = asyncio.create_task(queue.submit_many([3], lane=Lane.BULK))
        probe = asyncio.create_task(queue.submit_to_each(4))
        await clock.advance(1)
        gate.open.set()
        await asyncio.gather(first, second, bulk, probe)
        await queue.close()
        # The probe is in the second batch, and in no lane.
        assert notes.seen == [(1, {"interactive": [0]}, 3), (4, {"interactive": [2, 2], "bulk": [1]}, 0)]

        class Broken(NoObserver):
            def batch(self, size: int, wait_s: Mapping[str, Sequence[float]], run_s: float) -> None:
                raise RuntimeError("no disk")

        careless: Batcher[int, int] = Batcher(Gate(), BatchLimits(1), Watchdog(), observer=Broken())
        assert await careless.submit_many([1, 2]) == [2, 4]
        await careless.close()

    asyncio.run(story())
    assert "the batch observer failed" in caplog.text


@pytest.mark.parametrize("limits", [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_bounds_must_be_positive(limits: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        BatchLimits(*limits)


def test_interactive_items_go_first_and_bulk_items_fill_what_they_leave() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate, max_batch=4)
        first = await occupied(gate, queue)
        bulk = asyncio.create_task(queue.submit_many([10, 11, 12, 14, 15], lane=Lane.BULK))
        await asyncio.sleep(0)
        interactive = asyncio.create_task(queue.submit_many([1, 2, 3, 4, 5]))
        await asyncio.sleep(0)
        gate.open.set()
        assert await interactive == [2, 4, 6, 8, 10]
        assert await bulk == [20, 22, 24, 28, 30]
        await first
        await queue.close()
        # Three of four places for those who wait, one for the long row; in the next batch it gets what they leave.
        assert gate.batches == [[0], [1, 2, 3, 10], [4, 5, 11, 12], [14, 15]]

    asyncio.run(story())


def test_background_items_go_last_and_get_on_nevertheless() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate, max_batch=1)
        first = await occupied(gate, queue)
        background = asyncio.create_task(queue.submit_many([100, 200], lane=Lane.BACKGROUND))
        await asyncio.sleep(0)
        bulk = asyncio.create_task(queue.submit_many([1] * 20, lane=Lane.BULK))
        interactive = asyncio.create_task(queue.submit(2))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, background, bulk, interactive)
        await queue.close()
        # The interactive item's batch took no other: it is the first of the sixteen.
        assert [item for [item] in gate.batches] == [0, 2, *[1] * 14, 100, *[1] * 6, 200]

    asyncio.run(story())


def test_live_items_go_behind_interactive_and_before_bulk_ones_which_get_on_nevertheless() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate, max_batch=1)
        first = await occupied(gate, queue)
        bulk = asyncio.create_task(queue.submit_many([100, 200], lane=Lane.BULK))
        await asyncio.sleep(0)
        live = [asyncio.create_task(queue.submit_many([number], lane=Lane.LIVE)) for number in range(21, 41)]
        await asyncio.sleep(0)
        interactive = asyncio.create_task(queue.submit(50))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, bulk, *live, interactive)
        await queue.close()
        # The interactive item's batch is the first of sixteen in which both of the others wait.
        assert [item for [item] in gate.batches] == [0, 50, *range(21, 35), 100, *range(35, 41), 200]

    asyncio.run(story())


def test_bulk_items_take_no_longer_than_they_may() -> None:
    async def story() -> None:
        notes, clock = Notes(), ManualClock()

        def run(items: list[int]) -> list[int]:
            clock.now_s += 0.02 * len(items)
            return items

        queue: Batcher[int, int] = Batcher(run, BatchLimits(8, fill_s=0.05), Watchdog(), observer=notes, clock=clock)
        await queue.submit(0)  # from now on an item is known to take 20 ms: two fit into 50
        await queue.submit_many(range(6), lane=Lane.BULK)
        await queue.close()
        assert [size for size, _, _ in notes.seen] == [1, 2, 2, 2]

    asyncio.run(story())


@pytest.mark.parametrize("lane", list(Lane))
def test_an_item_that_takes_longer_than_batches_fill_gets_on_where_batches_have_one(lane: Lane) -> None:
    async def story() -> None:
        notes, clock = Notes(), ManualClock()

        def run(items: list[int]) -> list[int]:
            clock.now_s += 0.2 * len(items)
            return items

        queue: Batcher[int, int] = Batcher(run, BatchLimits(1, fill_s=0.05), Watchdog(), observer=notes, clock=clock)
        assert await queue.submit_many(range(4), lane=lane) == [0, 1, 2, 3]
        await queue.close()
        assert [size for size, _, _ in notes.seen] == [1, 1, 1, 1]

    asyncio.run(story())


def test_requests_share_batches_in_turns() -> None:
    async def story() -> None:
        gate = Gate(closed=True)
        queue = batcher(gate, max_batch=4)
        first = await occupied(gate, queue)
        crowd = asyncio.create_task(queue.submit_many([1, 2, 3, 4, 5, 6]))
        await asyncio.sleep(0)
        pair, single = asyncio.create_task(queue.submit_many([10, 11])), asyncio.create_task(queue.submit(20))
        await asyncio.sleep(0)
        gate.open.set()
        assert await single == 40
        assert await pair == [20, 22]
        assert await crowd == [2, 4, 6, 8, 10, 12]
        await first
        await queue.close()
        # After three first items, of which that of the occupant was one, a second one goes before the next.
        assert gate.batches == [[0], [1, 10, 2, 20], [11, 3, 4, 5], [6]]

    asyncio.run(story())


def test_a_request_of_many_items_fills_batches_no_longer_than_others_may_wait() -> None:
    async def story() -> None:
        notes, clock = Notes(), ManualClock()

        def run(items: list[int]) -> list[int]:
            clock.now_s += 0.02 * len(items)
            return items

        queue: Batcher[int, int] = Batcher(run, BatchLimits(8, fill_s=0.05), Watchdog(), observer=notes, clock=clock)
        await queue.submit(0)  # from now on an item is known to take 20 ms: two fit into 50
        await asyncio.gather(queue.submit_many(range(3)), *map(queue.submit, range(4)))
        await queue.close()
        # One item of each of the five requests joins, whatever it takes; after them the first fills two places.
        assert [size for size, _, _ in notes.seen] == [1, 5, 2]

    asyncio.run(story())


class ModelOfTheNetwork:
    """A `run` that takes 6 ms and 4 more for each item, on a clock that the simulation moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.notes = Notes()
        self.awaited = 0
        """Requests whose items wait or run: while there are any, a batch runs or is about to."""
        self._entered = threading.Semaphore(0)
        self._left = threading.Semaphore(0)
        self._size = 0

    def __call__(self, items: list[int]) -> list[int]:
        self._size = len(items)
        self._entered.release()
        assert self._left.acquire(timeout=5)
        return items

    def _has_run(self, batches: int) -> bool:
        return len(self.notes.seen) == batches

    def end(self) -> None:
        """Let what still comes run in no time."""
        self._left.release(1000)

    async def advance(self, until_s: float) -> None:
        """Run batches until the clock is there; callers are served in between, at the end of each batch."""
        while self.clock.now_s < until_s:
            await settle()
            if self.awaited:
                assert await asyncio.to_thread(self._entered.acquire, timeout=5)
                await self.clock.advance(0.006 + 0.004 * self._size)
                ended = len(self.notes.seen) + 1
                self._left.release()
                await until(partial(self._has_run, ended))
            else:
                await self.clock.advance(0.001)


async def client(queue: Batcher[int, int], network: ModelOfTheNetwork, faces: int, answers: list[float]) -> None:
    """Ask again and again, with 8 ms of decoding and detection before each request's faces."""
    while True:
        await network.clock.sleep(0.008)
        network.awaited += 1
        await queue.submit_many(range(faces))
        network.awaited -= 1
        answers.append(network.clock.now_s)


def answers_beside(crowds: int, seconds: float) -> int:
    """The answers that a client with one-face pictures gets beside so many clients with 64-face pictures."""

    async def story() -> int:
        network = ModelOfTheNetwork()
        limits, watchdog = BatchLimits(32, fill_s=0.02), Watchdog(sleep=network.clock.sleep)
        queue: Batcher[int, int] = Batcher(network, limits, watchdog, observer=network.notes, clock=network.clock)
        answers: list[float] = []
        tasks = [asyncio.create_task(client(queue, network, 1, answers))]
        tasks += [asyncio.create_task(client(queue, network, 64, [])) for _ in range(crowds)]
        await network.advance(seconds)
        for task in tasks:
            task.cancel()
        network.end()
        await queue.close()
        return len(answers)

    return asyncio.run(story())


def test_a_client_with_one_face_keeps_half_of_its_answers_beside_clients_with_64() -> None:
    alone = answers_beside(0, 2)
    assert alone == pytest.approx(2 / 0.018, rel=0.1)
    for crowds in (1, 8):
        assert answers_beside(crowds, 2) >= 0.5 * alone


def test_a_batch_too_large_for_memory_is_halved_and_stays_smaller() -> None:
    async def story() -> None:
        sizes, notes = [], Notes()

        def run(items: list[int]) -> list[int]:
            sizes.append(len(items))
            if len(items) > 3:
                raise BatchTooLarge("no memory")
            return items

        queue = batcher(run, max_batch=8, notes=notes)
        assert await queue.submit_many(range(16)) == list(range(16))
        await queue.close()
        # 8 fails, as its first half of 4 does; the second half fails as well; from then on batches are of 2.
        assert sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]
        assert notes.halvings == [8, 4, 4]

    asyncio.run(story())


def test_a_batch_that_does_not_end_in_time_fails_with_all_behind_it_and_the_batcher_recovers() -> None:
    async def story() -> None:
        gate, clock, hung = Gate(closed=True), ManualClock(), []
        queue = batcher(gate, watchdog=Watchdog(1, lambda: hung.append(True), clock.sleep))
        first = await occupied(gate, queue)
        behind = [asyncio.create_task(queue.submit_many([1, 2])), asyncio.create_task(queue.submit(3))]
        await clock.advance(1)
        assert not queue.stalled
        await clock.advance(0.25)
        for request in (first, *behind):
            with pytest.raises(WorkerStalled):
                await request
        with pytest.raises(WorkerStalled):
            await queue.submit(4)
        assert hung == []
        await clock.advance(10)
        assert hung == [True]
        gate.open.set()
        await until(lambda: not queue.stalled)
        assert await queue.submit(5) == 10
        await queue.close()
        assert gate.batches == [[0], [5]]

    asyncio.run(story())


@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.tuples(st.lists(st.integers(0, 20), max_size=6), st.integers(0, 3)), max_size=12),
    max_batch=st.integers(1, 5),
)
def test_any_interleaving_gives_each_caller_its_own_results(
    requests: list[tuple[list[int], int]], max_batch: int
) -> None:
    async def caller(queue: Batcher[int, int], items: list[int], delay: int) -> "list[int] | str":
        for _ in range(delay):
            await asyncio.sleep(0)
        try:
            return await queue.submit_many(items)
        except ValueError as error:
            return str(error)

    async def story() -> None:
        gate = Gate()
        queue = batcher(gate, max_batch=max_batch)
        answers = await asyncio.gather(*(caller(queue, *request) for request in requests))
        await queue.close()
        expected = ["13 is poisoned" if 13 in items else [2 * item for item in items] for items, _ in requests]
        assert answers == expected
        assert all(1 <= len(batch) <= max_batch for batch in gate.batches)
        assert queue.queue_depth == 0

    asyncio.run(story())
