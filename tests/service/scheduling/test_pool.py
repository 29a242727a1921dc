import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from service.scheduling.batch_contract import WorkerStalled
from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool


def blocked(pool: WorkerPool) -> tuple[threading.Event, "asyncio.Future[bool]"]:
    """Occupy one worker until the event is set."""
    event = threading.Event()
    return event, pool.run(lambda: event.wait(5), Lane.INTERACTIVE)


def test_calls_return_and_raise_what_they_do_and_interactive_ones_go_first() -> None:
    async def story() -> None:
        pool, order = WorkerPool(1), []

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
        pool, ran = WorkerPool(1), []
        await pool.run(lambda: time.sleep(0.02), Lane.BULK)
        event, first = blocked(pool)
        call = pool.run(lambda: ran.append(1), Lane.BULK)
        assert pool.expected_wait_s(Lane.BULK) >= 0.02
        assert pool.expected_wait_s(Lane.INTERACTIVE) == 0
        call.cancel()
        await asyncio.sleep(0)
        assert pool.expected_wait_s(Lane.BULK) == 0
        event.set()
        await first
        await pool.close()
        assert not ran

    asyncio.run(story())


def test_a_bulk_call_gets_on_however_many_interactive_ones_wait() -> None:
    async def story() -> None:
        pool, order = WorkerPool(1), []
        event, first = blocked(pool)
        bulk = [pool.run(lambda: order.append("bulk"), Lane.BULK) for _ in range(2)]
        interactive = [pool.run(lambda: order.append("interactive"), Lane.INTERACTIVE) for _ in range(40)]
        assert (pool.depth(Lane.BULK), pool.depth(Lane.INTERACTIVE)) == (2, 41)  # with the one that runs
        event.set()
        await asyncio.gather(first, *bulk, *interactive)
        await pool.close()
        assert [place for place, lane in enumerate(order) if lane == "bulk"] == [15, 31]

    asyncio.run(story())


def test_only_a_call_that_stays_where_it_is_stalls() -> None:
    async def story() -> None:
        steps: dict[int, int] = {}
        hung: list[bool] = []
        pool = WorkerPool(2, stall_s=0.5, step_of=steps.get, on_hang=lambda: hung.append(True))
        gates = {name: threading.Event() for name in ("stays", "moves", "none")}

        def work(name: str) -> Callable[[], str]:
            def call() -> str:
                for number in range(1000):
                    if name != "none":
                        steps[threading.get_ident()] = number if name == "moves" else -1
                    if gates[name].wait(0.01):
                        break
                return name

            return call

        moves, stays = (pool.run(work(name), Lane.INTERACTIVE) for name in ("moves", "stays"))
        with pytest.raises(WorkerStalled):
            await stays
        assert pool.stalled
        gates["moves"].set()
        assert await moves == "moves"
        unwatched = pool.run(work("none"), Lane.BULK)
        while not hung:
            await asyncio.sleep(0.01)
        assert not unwatched.done()
        for gate in gates.values():
            gate.set()
        assert await unwatched == "none"
        await pool.close()
        assert not pool.stalled
        assert hung == [True]

    asyncio.run(story())


def test_an_interactive_call_must_end_even_outside_of_steps() -> None:
    async def story() -> None:
        pool = WorkerPool(2, stall_s=0.25)
        gate = threading.Event()
        bulk, interactive = (pool.run(lambda: gate.wait(5), lane) for lane in (Lane.BULK, Lane.INTERACTIVE))
        with pytest.raises(WorkerStalled):
            await interactive
        assert not bulk.done()
        gate.set()
        assert await bulk
        await pool.close()

    asyncio.run(story())


def test_as_many_calls_run_at_once_as_there_are_workers() -> None:
    async def story() -> None:
        pool, both = WorkerPool(2), threading.Barrier(2)
        await asyncio.wait_for(asyncio.gather(*(pool.run(lambda: both.wait(5), Lane.BULK) for _ in range(4))), 10)
        await pool.close()

    asyncio.run(story())
