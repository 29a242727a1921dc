"""The newest frame wins: a place for one frame that waits, and the rate at which frames leave it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, TypeAlias

SkipReason: TypeAlias = Literal["newer", "rate", "overloaded"]
"""Why a frame is not analysed: a newer one came while the one before it was analysed, the connection sends more frames
a second than it may, or the service has more to do than it can."""


class Arrival(NamedTuple):
    """A frame as it came."""

    frame: int
    """Index among all frames of the connection, from 0."""
    time_s: float
    """Time of its arrival, in seconds since the connection began."""
    picture: bytes
    """A picture file."""


class NewestFrame:
    """Holds the newest frame of a connection until it is taken; a further one replaces it.

    Frames leave at the rate that is allowed, or as soon as they are asked for if that is later. A frame may leave up to
    one interval before it is due, since frames that are sent at an even pace do not arrive at one.
    """

    def __init__(
        self,
        most_fps: float,
        on_skip: Callable[[SkipReason], None],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`most_fps`: frames that may leave in a second. `on_skip` is called for each frame that never leaves."""
        self._interval_s = 1 / most_fps
        self._on_skip = on_skip
        self._clock = clock
        self._sleep = sleep
        self._began_s = self._due_s = clock()
        self._sent = 0
        self._waiting: Arrival | None = None
        self._arrived = asyncio.Event()
        self._closed = False
        self._pause: SkipReason = "newer"
        """Why a frame that is replaced now has not left yet."""

    def put(self, picture: bytes) -> None:
        """Take in the next frame, which has just arrived."""
        if self._waiting is not None:
            self._on_skip(self._pause)
        self._waiting = Arrival(self._sent, self._clock() - self._began_s, picture)
        self._sent += 1
        self._arrived.set()

    async def take(self) -> Arrival | None:
        """Wait for a frame, and until one is due, and return the newest; None after `close`."""
        await self._arrived.wait()
        early_s = self._due_s - self._interval_s - self._clock()
        if early_s > 0 and not self._closed:
            self._pause = "rate"
            await self._sleep(early_s)
            self._pause = "newer"
        if self._closed or self._waiting is None:
            return None
        self._due_s = max(self._due_s, self._clock()) + self._interval_s
        taken, self._waiting = self._waiting, None
        self._arrived.clear()
        return taken

    async def skip(self, seconds: float) -> None:
        """Count a frame that was taken as skipped for overload, and let those of some seconds more go the same way."""
        self._on_skip("overloaded")
        self._pause = "overloaded"
        await self._sleep(seconds)
        self._pause = "newer"

    def age_s(self, arrival: Arrival) -> float:
        """Return the seconds since a frame came."""
        return self._clock() - self._began_s - arrival.time_s

    def close(self) -> None:
        """Let no further frame leave."""
        self._closed = True
        self._arrived.set()
