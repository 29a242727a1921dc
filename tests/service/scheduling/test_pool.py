import asyncio
import gc
import threading
from collections.abc import Callable
from functools import partial

import pytest

from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool
from service.scheduling.watchdog import Watchdog, WorkerStalled
from tests.service.scheduling.clocks import ManualClock, settle, until


def blocked(pool: WorkerPool, lane: Lane = Lane.INTERACTIVE) -> tuple[threading.Event, "asyncio.Future[bool]"]:
    """Occupy one worker until the event is set."""
    event = threading.Event()
    return event, pool.run(lambda: event.wait(5), lane)


def blocked_in_a_step(
    pool: WorkerPool, watchdog: Watchdog, lane: Lane = Lane.INTERACTIVE
) -> tuple[threading.Event, "asyncio.Future[bool]"]:
    """Occupy one worker within a watched step until the event is set."""
    event = threading.Event()

    def wait() -> bool:
        with watchdog.step():
            return event.wait(5)

    return event, pool.run(wait, lane)


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


def test_an_error_of_a_call_that_nobody_awaits_any_more_is_not_logged() -> None:
    logged: list[object] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        pool, event = WorkerPool(1, Watchdog()), threading.Event()

        def fail() -> None:
            event.wait(5)
            raise ZeroDivisionError

        call = pool.run(fail, Lane.INTERACTIVE)
        call.cancel()
        event.set()
        await pool.close()
        gc.collect()  # an error that nobody has seen is logged when its future is forgotten
        await settle()

    asyncio.run(story())
    assert not logged


def test_a_bulk_call_gets_on_however_many_interactive_ones_wait() -> None:
    """Fifteen interactive calls go before the first bulk one; the sixteenth runs beside it, and waits for it here."""

    async def story() -> None:
        pool, order = WorkerPool(1, Watchdog()), []
        event, first = blocked(pool)
        one, other = threading.Event(), threading.Event()

        def bulk(started: threading.Event) -> None:
            order.append("bulk")
            started.set()

        def interactive(number: int) -> None:
            if number >= 15:
                one.wait(5)
            if number >= 35:
                other.wait(5)
            order.append("interactive")

        calls = [pool.run(partial(bulk, started), Lane.BULK) for started in (one, other)]
        calls += [pool.run(partial(interactive, number), Lane.INTERACTIVE) for number in range(40)]
        assert (pool.depth(Lane.BULK), pool.depth(Lane.INTERACTIVE)) == (2, 41)  # with the one that runs
        event.set()
        await asyncio.gather(first, *calls)
        await pool.close()
        places = [place for place, lane in enumerate(order) if lane == "bulk"]
        assert places[0] == 15
        assert 31 <= places[1] <= 36  # some interactive calls ran beside the first bulk one

    asyncio.run(story())


def test_a_background_call_gets_on_however_many_of_the_others_wait() -> None:
    """A picture's call goes first; the sixteenth call is a job's, however many of videos wait."""

    async def story() -> None:
        pool, order = WorkerPool(1, Watchdog()), []
        event, first = blocked(pool)
        calls = [pool.run(partial(order.append, "background"), Lane.BACKGROUND)]
        calls += [pool.run(partial(order.append, "bulk"), Lane.BULK) for _ in range(30)]
        calls += [pool.run(partial(order.append, "interactive"), Lane.INTERACTIVE)]
        event.set()
        await asyncio.gather(first, *calls)
        await pool.close()
        assert order[0] == "interactive"
        assert order.index("background") == 15

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
        assert (pool.stalled, pool.blocked(Lane.INTERACTIVE), pool.blocked(Lane.BULK)) == (True, False, False)
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
        assert all(pool.blocked(lane) for lane in Lane)
        comes = pool.run(lambda: "never", Lane.INTERACTIVE)
        for call in (stays, waits, comes):
            with pytest.raises(WorkerStalled):
                await call
        event.set()
        await until(lambda: not pool.stalled)
        assert await pool.run(lambda: "again", Lane.INTERACTIVE) == "again"
        await pool.close()

    asyncio.run(story())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_however_long_bulk_calls_last_an_interactive_one_starts_at_once(workers: int) -> None:
    async def story() -> None:
        pool = WorkerPool(workers, Watchdog())
        bulk = [blocked(pool, Lane.BULK) for _ in range(workers + 1)]
        for number in range(20):
            assert await pool.run(lambda number=number: number, Lane.INTERACTIVE) == number
        assert [call.done() for _, call in bulk] == [False] * (workers + 1)
        for event, _ in bulk:
            event.set()
        assert await asyncio.gather(*(call for _, call in bulk)) == [True] * (workers + 1)
        await pool.close()

    asyncio.run(story())


def test_beside_bulk_calls_on_all_workers_one_interactive_call_runs_at_a_time() -> None:
    async def story() -> None:
        pool, started = WorkerPool(2, Watchdog()), []
        bulk = [blocked(pool, Lane.BULK) for _ in range(2)]
        event, first = blocked(pool)
        second = pool.run(lambda: started.append("second"), Lane.INTERACTIVE)
        third = pool.run(lambda: started.append("third"), Lane.BULK)
        await settle()
        assert (started, pool.depth(Lane.INTERACTIVE), pool.depth(Lane.BULK)) == ([], 2, 3)
        event.set()
        await asyncio.gather(first, second)
        assert started == ["second"]  # the bulk call still waits for one of the two threads
        for gate, _ in bulk:
            gate.set()
        await asyncio.gather(third, *(call for _, call in bulk))
        await pool.close()

    asyncio.run(story())


def test_stalled_bulk_calls_fail_what_waits_in_their_lane_only() -> None:
    async def story() -> None:
        clock = ManualClock()
        watchdog = Watchdog(1, sleep=clock.sleep)
        pool = WorkerPool(2, watchdog)
        stays = [blocked_in_a_step(pool, watchdog, Lane.BULK) for _ in range(2)]
        waits = pool.run(lambda: "never", Lane.BULK)
        event, picture = blocked(pool)
        next_picture = pool.run(lambda: "the next picture", Lane.INTERACTIVE)
        await clock.advance(1.25)
        assert (pool.blocked(Lane.INTERACTIVE), pool.blocked(Lane.BULK)) == (False, True)
        for call in (*(call for _, call in stays), waits, pool.run(lambda: "never", Lane.BULK)):
            with pytest.raises(WorkerStalled):
                await call
        event.set()
        assert await picture
        assert await next_picture == "the next picture"
        for gate, _ in stays:
            gate.set()
        await until(lambda: not pool.stalled)
        assert await pool.run(lambda: "again", Lane.BULK) == "again"
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


def test_a_pool_is_at_rest_once_no_further_call_has_come() -> None:
    async def story() -> None:
        rests: list[str] = []
        rested = threading.Event()

        def at_rest() -> None:
            rests.append(threading.current_thread().name)
            rested.set()

        pool = WorkerPool(1, Watchdog(), at_rest, rest_s=0)
        for _ in range(2):  # the second call comes before the timer of the first has run
            await pool.run(lambda: None, Lane.BULK)
        await until(rested.is_set)
        assert len(rests) == 1
        assert rests[0].startswith("locate")
        await pool.close()

    asyncio.run(story())


def test_a_closed_pool_does_not_rest() -> None:
    async def story() -> None:
        rests: list[int] = []
        pool = WorkerPool(1, Watchdog(), lambda: rests.append(1), rest_s=0)
        await pool.run(lambda: None, Lane.BULK)
        await pool.close()
        await settle()
        assert rests == []

    asyncio.run(story())
