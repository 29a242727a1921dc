"""Notices calls that hang in a thread: one watchdog watches all threads of the service.

Time is counted in ticks of the event loop, not by a clock: a process that was stopped for a while comes back to one
late tick, not to a stalled call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from itertools import count
from threading import get_ident
from typing import TypeVar

R = TypeVar("R")

TICK_S = 0.25
"""Seconds of a tick at most; there are four ticks in `stall_s` at least."""

_NOT_SEEN = -1
"""Stands for the step of a call that no tick has found anywhere yet."""


class WorkerStalled(Exception):
    """A call has not ended within its time; its thread takes nothing new until it does."""


class WatchedCall:
    """A call in a thread, from its submission to its end. `run` belongs to the thread, the rest to the event loop."""

    def __init__(self, watchdog: "Watchdog", on_stall: Callable[[], None], only_steps: bool) -> None:
        self._watchdog = watchdog
        self._on_stall = on_stall
        self._only_steps = only_steps
        self._thread: int | None = None
        self._step: int | None = _NOT_SEEN
        self._still_s = 0.0

    @property
    def stalled(self) -> bool:
        """True while it has stayed in one step for `stall_s`."""
        return self._still_s >= self._watchdog.stall_s

    def run(self, function: Callable[[], R]) -> R:
        """Call the function, in the thread that this is called in."""
        self._thread = get_ident()
        try:
            return function()
        except StopIteration as error:
            raise RuntimeError(f"the call raised {error!r}") from error  # a future refuses to carry a StopIteration

    def ended(self) -> None:
        """The call has ended, or will never start: it is watched no more."""
        self._still_s = 0.0
        self._watchdog.forget(self)

    def tick(self, tick_s: float, step_of: Callable[[int], int | None]) -> None:
        """`tick_s` seconds have passed; tells `on_stall`, and the watchdog of a hang, the moment either begins.

        Time counts between two ticks that find the call in the same place, so that no call stalls too early.
        """
        step = None if self._thread is None else step_of(self._thread)
        if step != self._step or (step is None and self._only_steps):
            self._step = step
            self._still_s = 0.0
            return
        before_s = self._still_s
        self._still_s += tick_s
        stall_s = self._watchdog.stall_s
        if before_s < stall_s <= self._still_s:
            self._on_stall()
        if before_s < 2 * stall_s <= self._still_s:
            self._watchdog.on_hang()


class Watchdog:
    """Knows which calls are in which threads, in which step, and for how long.

    A call stalls when it has stayed for `stall_s` seconds in one step, or outside of steps; a call that is watched in
    its steps only may be outside of them for any time. After as long again `on_hang` is called, once for a call: a
    thread cannot be ended from outside, only the process can be. A call that moves on or ends after all is not stalled
    any more. Belongs to one event loop, which need not run yet; only `step` is for threads.
    """

    def __init__(
        self,
        stall_s: float = 30,
        on_hang: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """stall_s: seconds, positive. sleep: waits for so many seconds; tests bring their own.

        Raises ValueError for a `stall_s` that is not positive.
        """
        if not stall_s > 0:
            raise ValueError("the time after which a call stalls must be positive")
        self.stall_s = stall_s
        self.on_hang = on_hang
        self._tick_s = min(TICK_S, stall_s / 4)
        self._sleep = sleep
        self._calls: set[WatchedCall] = set()
        self._steps: dict[int, int] = {}
        self._numbers = count()
        self._ticking: asyncio.Task[None] | None = None

    def watch(self, on_stall: Callable[[], None], *, only_steps: bool = False) -> WatchedCall:
        """Watch a call from now until its `ended`. on_stall: called on the event loop, once for each stall.

        only_steps: whether it may last outside of steps.
        """
        call = WatchedCall(self, on_stall, only_steps)
        self._calls.add(call)
        if self._ticking is None or self._ticking.done():
            # In an empty context, for it belongs to no single request.
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), context=Context())
        return call

    def forget(self, call: WatchedCall) -> None:
        """Watch a call no more."""
        self._calls.discard(call)
        if not self._calls and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """A part of the current thread's call that must end by itself within `stall_s`. Steps do not nest."""
        thread = get_ident()
        self._steps[thread] = next(self._numbers)
        try:
            yield
        finally:
            del self._steps[thread]

    async def _tick(self) -> None:
        while True:
            await self._sleep(self._tick_s)
            for call in list(self._calls):
                call.tick(self._tick_s, self._steps.get)
