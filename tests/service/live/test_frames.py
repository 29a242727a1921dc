"""The newest frame wins, at the rate that is allowed."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.live.frames import NewestFrame, SkipReason
from tests.service.scheduling.clocks import ManualClock, settle


def frames(most_fps: float = 1000) -> tuple[NewestFrame, ManualClock, list[SkipReason]]:
    clock = ManualClock()
    skipped: list[SkipReason] = []
    return NewestFrame(most_fps, skipped.append, clock, clock.sleep), clock, skipped


def told(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def test_of_those_that_wait_the_newest_is_taken() -> None:
    async def story() -> None:
        newest, clock, skipped = frames()
        newest.put(b"a")
        clock.now_s = 0.5
        newest.put(b"b")
        newest.put(b"c")
        clock.now_s = 0.75
        taken = await newest.take()
        assert taken is not None
        assert (taken.frame, taken.time_s, taken.picture) == (2, 0.5, b"c")
        assert newest.age_s(taken) == 0.25
        assert skipped == ["newer", "newer"]

    told(story())


def test_who_asks_first_waits_for_a_frame() -> None:
    async def story() -> None:
        newest, _, skipped = frames()
        taking = asyncio.create_task(newest.take())
        await settle()
        assert not taking.done()
        newest.put(b"a")
        taken = await taking
        assert taken is not None
        assert (taken.picture, skipped) == (b"a", [])

    told(story())


def test_frames_leave_at_the_rate_that_is_allowed_and_the_newest_of_more() -> None:
    """Thirty frames a second for two seconds, of which ten a second may leave, and one more at first."""

    async def story() -> None:
        newest, clock, skipped = frames(most_fps=10)
        taken = []

        async def take_all() -> None:
            while (arrival := await newest.take()) is not None:
                taken.append(arrival.frame)

        taking = asyncio.create_task(take_all())
        for _ in range(60):
            newest.put(b"")
            await clock.advance(1 / 30)
        assert taken[:4] == [0, 1, 2, 5]  # two at once, then one each 0.1 s
        assert len(taken) in (21, 22)
        assert set(skipped) == {"rate"}
        assert len(taken) + len(skipped) in (59, 60)  # the last may still wait
        taking.cancel()

    told(story())


def test_an_uneven_pace_within_the_rate_loses_no_frame() -> None:
    async def story() -> None:
        newest, clock, skipped = frames(most_fps=10)
        taken = []
        for number in range(20):
            newest.put(b"")
            arrival = await newest.take()
            assert arrival is not None
            taken.append((arrival.frame, round(newest.age_s(arrival), 6)))
            await clock.advance(0.02 if number % 2 == 0 else 0.18)
        assert taken == [(number, 0) for number in range(20)]
        assert skipped == []

    told(story())


def test_what_comes_while_the_service_has_no_time_is_skipped_for_that() -> None:
    async def story() -> None:
        newest, clock, skipped = frames()
        newest.put(b"a")
        await newest.take()
        pausing = asyncio.create_task(newest.skip(0.5))
        await settle()
        newest.put(b"b")
        newest.put(b"c")
        await clock.advance(0.5)
        await pausing
        taken = await newest.take()
        assert taken is not None
        assert (taken.picture, skipped) == (b"c", ["overloaded", "overloaded"])

    told(story())


def test_none_leaves_after_the_end() -> None:
    async def story() -> None:
        newest, _, _ = frames()
        newest.put(b"a")
        newest.close()
        assert await newest.take() is None

    told(story())


@given(st.lists(st.one_of(st.just("put"), st.just("take"), st.floats(0, 0.3)), max_size=60))
def test_every_frame_is_taken_or_skipped_and_in_order(steps: list[str | float]) -> None:
    """A step is a frame that comes, somebody who takes the next one, or seconds that pass."""

    async def story() -> None:
        newest, clock, skipped = frames(most_fps=10)
        taking: list[asyncio.Task[Any]] = []
        for step in steps:
            if step == "put":
                newest.put(b"")
            elif step == "take" and (not taking or taking[-1].done()):
                taking.append(asyncio.create_task(newest.take()))
                await settle()
            elif isinstance(step, float):
                await clock.advance(step)
        taken = [task.result().frame for task in taking if task.done()]
        waits = 0 if taken[-1:] == [steps.count("put") - 1] or not steps.count("put") else 1
        assert taken == sorted(set(taken))
        assert len(taken) + len(skipped) + waits == steps.count("put")
        for task in taking:
            task.cancel()

    told(story())
