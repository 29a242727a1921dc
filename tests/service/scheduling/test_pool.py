import asyncio
import threading
from collections.abc import Callable

import pytest

from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool
from service.scheduling.watchdog import Watchdog, WorkerStalled
from tests.service.scheduling.clocks import ManualClock, until


def blocked(pool: WorkerPool) -> tuple[threading.Event, "asyncio.Future[bool]"]:
    """Occupy one worker until the event is set."""
    event = threading.Event()
    return event, pool.run(lambda: event.wait(5), Lane.INTERACTIVE)


def blocked_in_a_step(pool: WorkerPool, watchdog: Watchdog) -> tuple[threading.Event, "asyncio.Future[bool]"]:
    """Occupy one worker within a watched step until the event is set."""
    event = threading.Event()

    def wait() -> bool:
        with watchdog.step():
            return event.wait(5)

    return event, pool.run(wait, Lane.INTERACTIVE)


def test_calls_return_and_raise_what_they_do_and_interactive_ones_go_first() -> None:
    async def story() -> None:
        pool, order = WorkerPool(1, Watchdog()), []

        def note(name: str) -> Callable[[], str]:
            return lambda: order.append(name) or name

        event, first = blocked(pool)
        calls = [pool.run(note(name), lane) for name, lane in (("a", Lane.BULK), ("b", Lane.BULK))]
        calls += [pool.run(note("c"), Lane.INTERACTIVE)]
        failing = pool.run(lambda: 1 // 0, Lane.INTERACTIVE)
        event.set()
        assert await asyncio.gather(*calls) == ["a", "b", "c"]
        assert order == ["c", "a", "b"]
        with pytest.raises(ZeroDivisionError):
            await failing
        assert await first
        await pool.close()

    asyncio.run(story())


def test_a_cancelled_call_is_never_run_and_counts_no_more() -> None:
    async def story() -> None:
        pool, ran = WorkerPool(1, Watchdog()), []
        event, first = blocked(pool)
        call = pool.run(lambda: ran.append(1), Lane.BULK)
        assert pool.depth(Lane.BULK) == 1
        call.cancel()
        await asyncio.sleep(0)
        assert pool.depth(Lane.BULK) == 0
        event.set()
        await first
        await pool.close()
        assert not ran

    asyncio.run(story())


def test_a_bulk_call_gets_on_however_many_interactive_ones_wait() -> None:
    async def story() -> None:
        pool, order = WorkerPool(1, Watchdog()), []
        event, first = blocked(pool)
        bulk = [pool.run(lambda: order.append("bulk"), Lane.BULK) for _ in range(2)]
        interactive = [pool.run(lambda: order.append("interactive"), Lane.INTERACTIVE) for _ in range(40)]
        assert (pool.depth(Lane.BULK), pool.depth(Lane.INTERACTIVE)) == (2, 41)  # with the one that runs
        event.set()
        await asyncio.gather(first, *bulk, *interactive)
        await pool.close()
        assert [place for place, lane in enumerate(order) if lane == "bulk"] == [15, 31]

    asyncio.run(story())


def test_a_call_that_stalls_fails_while_its_thread_stays_occupied() -> None:
    async def story() -> None:
        clock = ManualClock()
        watchdog = Watchdog(1, sleep=clock.sleep)
        pool = WorkerPool(2, watchdog)
        event, stays = blocked_in_a_step(pool, watchdog)
        await clock.advance(1.25)
        with pytest.raises(WorkerStalled):
            await stays
        assert (pool.stalled, pool.blocked) == (True, False)
        assert pool.depth(Lane.INTERACTIVE) == 1
        assert await pool.run(lambda: "the other thread", Lane.INTERACTIVE) == "the other thread"
        event.set()
        await until(lambda: not pool.stalled)
        await pool.close()

    asyncio.run(story())


def test_while_all_threads_are_stalled_whatever_waits_or_comes_fails() -> None:
    async def story() -> None:
        clock = ManualClock()
        watchdog = Watchdog(1, sleep=clock.sleep)
        pool = WorkerPool(1, watchdog)
        event, stays = blocked_in_a_step(pool, watchdog)
        waits = pool.run(lambda: "never", Lane.BULK)
        await clock.advance(1.25)
        assert pool.blocked
        comes = pool.run(lambda: "never", Lane.INTERACTIVE)
        for call in (stays, waits, comes):
            with pytest.raises(WorkerStalled):
                await call
        event.set()
        await until(lambda: not pool.blocked)
        assert await pool.run(lambda: "again", Lane.INTERACTIVE) == "again"
        await pool.close()

    asyncio.run(story())


def test_a_call_may_last_outside_of_steps() -> None:
    async def story() -> None:
        clock = ManualClock()
        pool = WorkerPool(2, Watchdog(1, sleep=clock.sleep))
        gate = threading.Event()
        calls = [pool.run(lambda: gate.wait(5), lane) for lane in (Lane.BULK, Lane.INTERACTIVE)]
        await clock.advance(1.25)
        assert not any(call.done() for call in calls)
        gate.set()
        assert await asyncio.gather(*calls) == [True, True]
        await pool.close()

    asyncio.run(story())


def test_as_many_calls_run_at_once_as_there_are_workers() -> None:
    async def story() -> None:
        pool, both = WorkerPool(2, Watchdog()), threading.Barrier(2)
        await asyncio.wait_for(asyncio.gather(*(pool.run(lambda: both.wait(5), Lane.BULK) for _ in range(4))), 10)
        await pool.close()

    asyncio.run(story())


def test_an_exhausted_iterator_is_an_error_like_any_other() -> None:
    async def story() -> None:
        pool = WorkerPool(1, Watchdog())
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(lambda: next(iter(())), Lane.INTERACTIVE)
        assert await pool.run(lambda: 1, Lane.INTERACTIVE) == 1
        await pool.close()

    asyncio.run(story())
