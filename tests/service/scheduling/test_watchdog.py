import asyncio
import threading

import pytest

from service.scheduling.watchdog import Watchdog
from tests.service.scheduling.clocks import ManualClock


class Notes:
    """Counts the stalls and the hangs of a watchdog that waits for a clock moved by hand."""

    def __init__(self, stall_s: float = 1) -> None:
        self.clock = ManualClock()
        self.stalls = 0
        self.hangs = 0
        self.watchdog = Watchdog(stall_s, self.hang, self.clock.sleep)

    def stall(self) -> None:
        self.stalls += 1

    def hang(self) -> None:
        self.hangs += 1


def test_a_call_stalls_after_its_time_and_hangs_after_as_long_again_and_each_is_told_once() -> None:
    async def story() -> None:
        notes = Notes(stall_s=1)  # a tick is a quarter of a second; the first one only finds the call
        call = notes.watchdog.watch(notes.stall)
        await notes.clock.advance(1.0)
        assert (call.stalled, notes.stalls) == (False, 0)
        await notes.clock.advance(0.25)
        assert (call.stalled, notes.stalls, notes.hangs) == (True, 1, 0)
        await notes.clock.advance(1.0)
        assert (notes.stalls, notes.hangs) == (1, 1)
        await notes.clock.advance(10)
        assert (call.stalled, notes.stalls, notes.hangs) == (True, 1, 1)
        call.ended()
        assert not call.stalled

    asyncio.run(story())


def test_a_call_that_ends_in_time_says_nothing_and_neither_does_an_idle_watchdog() -> None:
    async def story() -> None:
        notes = Notes()
        for _ in range(3):
            call = notes.watchdog.watch(notes.stall)
            await notes.clock.advance(1)
            call.ended()
            await notes.clock.advance(5)
        assert (notes.stalls, notes.hangs) == (0, 0)

    asyncio.run(story())


def test_a_process_that_was_stopped_comes_back_to_one_tick() -> None:
    async def story() -> None:
        notes = Notes()
        call = notes.watchdog.watch(notes.stall)
        await notes.clock.advance(0.5)
        notes.clock.now_s += 3600  # nothing ran meanwhile: the tick that was due comes late
        await notes.clock.advance(0.25)
        assert not call.stalled

    asyncio.run(story())


@pytest.mark.parametrize(("only_steps", "stalls"), [(False, 1), (True, 0)])
def test_only_a_call_that_is_watched_in_its_steps_may_be_outside_of_them_for_long(
    only_steps: bool, stalls: int
) -> None:
    async def story() -> None:
        notes = Notes()
        notes.watchdog.watch(notes.stall, only_steps=only_steps)
        await notes.clock.advance(60)
        assert notes.stalls == stalls

    asyncio.run(story())


@pytest.mark.parametrize("only_steps", [False, True])
def test_a_call_may_last_while_its_steps_are_short_and_a_long_step_stalls(only_steps: bool) -> None:
    turn = threading.Barrier(2, timeout=5)

    async def story() -> None:
        notes = Notes()

        def work() -> None:
            for _ in range(10):
                with notes.watchdog.step():
                    turn.wait()  # the test moves the clock
                    turn.wait()

        call = notes.watchdog.watch(notes.stall, only_steps=only_steps)
        ended = asyncio.get_running_loop().run_in_executor(None, call.run, work)
        for number in range(10):
            await asyncio.to_thread(turn.wait)
            await notes.clock.advance(0.75 if number < 9 else 1.25)
            if number < 9:
                assert not call.stalled
                await asyncio.to_thread(turn.wait)
        assert (call.stalled, notes.stalls, notes.hangs) == (True, 1, 0)
        await asyncio.to_thread(turn.wait)
        await ended
        call.ended()
        assert not call.stalled

    asyncio.run(story())


def test_a_time_that_is_none_is_refused() -> None:
    for stall_s in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            Watchdog(stall_s)
