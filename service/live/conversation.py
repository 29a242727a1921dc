"""A live connection from its first message to its end: frames in, one answer for each that is analysed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from service.analysis.results import FrameResult
from service.errors import DeadlineExceeded, InternalError, Limit, Overloaded, ServiceError
from service.live.frames import Arrival, NewestFrame
from service.output.live import LiveMessages

MOST_FAILURES = 16
"""Frames in a row that cannot be analysed, after which a connection ends: what sends them does not look at answers."""

PAUSE_S = 0.5
"""Seconds for which all frames are skipped after one that the service had no time for."""

SEND_S = 10.0
"""Seconds in which a client must make room for an answer, by reading those before it."""

logger = logging.getLogger(__name__)


class Code(IntEnum):
    """Close codes of RFC 6455, section 7.4.1, and from 4000 on the service's own, which resemble HTTP's statuses."""

    NORMAL = 1000
    UNSUPPORTED_DATA = 1003
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 4401
    TIMEOUT = 4408


class Ending(NamedTuple):
    """The code and the reason by which a connection is closed."""

    code: int
    reason: str
    """A sentence for the client, of at most 123 bytes."""


class ClientLeft(Exception):
    """The client has closed the connection, or is gone."""


class ServerStops(Exception):
    """The server asks for the end of the connection."""


class Channel(Protocol):
    """The messages of one WebSocket."""

    async def receive(self) -> bytes | str:
        """Return the client's next message. Raises ClientLeft or ServerStops."""
        ...

    async def send(self, text: str) -> None:
        """Send a message, as soon as there is room for it. Raises ClientLeft."""
        ...


Analyse = Callable[[Arrival], Awaitable[FrameResult]]
"""Analyses a frame as the next one of its connection. Raises ServiceErrors, Overloaded if there is no time for it."""


class LiveObserver(Protocol):
    """Told about answers, on the event loop."""

    def live_answered(self, seconds: float) -> None:
        """A frame was answered, so many seconds after it came."""
        ...

    def live_failed(self, code: str) -> None:
        """A frame could not be analysed, for an error of this code."""
        ...


@dataclass(frozen=True)
class LiveLimits:
    """Limits on one connection."""

    idle: Limit
    """Longest time without a frame, in seconds."""
    longest: Limit
    """Longest time of the connection, in seconds."""
    answer: Limit
    """Longest time for the analysis of a frame, in seconds."""
    send_s: float = SEND_S
    """Longest time until there is room for an answer."""


class Conversation:
    """Reads frames and answers them, until one side ends it.

    Frames are analysed one at a time, in their order. Of those that come meanwhile the newest waits; the others are
    skipped, so that an answer is never about an old picture and nothing piles up.
    """

    def __init__(
        self,
        channel: Channel,
        frames: NewestFrame,
        analyse: Analyse,
        messages: LiveMessages,
        limits: LiveLimits,
        observer: LiveObserver,
        is_known_text: Callable[[str], bool] = lambda text: False,
    ) -> None:
        """`is_known_text` returns True for texts of the client that mean nothing here, and do no harm."""
        self._channel = channel
        self._frames = frames
        self._analyse = analyse
        self._messages = messages
        self._limits = limits
        self._observer = observer
        self._is_known_text = is_known_text
        self._answered = -1
        """Index of the last frame that was answered."""
        self._busy = False
        """True while a frame is analysed, or its answer waits for room."""

    async def run(self) -> Ending:
        """Talk to the client. Returns how to close the connection; raises ClientLeft where that is done."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]
        reading, answering = tasks
        try:
            longest_s = self._limits.longest["value"]
            done, _ = await asyncio.wait(tasks, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
            if answering in done:
                return answering.result()
            ending = (
                reading.result()
                if done
                else Ending(Code.TIMEOUT, f"the connection has lasted {longest_s:g} s ({self._limits.longest['name']})")
            )
            if self._busy:
                self._frames.close()
                await asyncio.wait([answering])  # in bounded time, since analysis and sending are
            return ending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> Ending:
        idle_s = self._limits.idle["value"]
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    message = await self._channel.receive()
            except TimeoutError:
                return Ending(Code.TIMEOUT, f"no frame has come for {idle_s:g} s ({self._limits.idle['name']})")
            except ServerStops:
                return Ending(Code.SERVICE_RESTART, "the service is shutting down")
            if isinstance(message, bytes):
                self._frames.put(message)
            elif not self._is_known_text(message):
                return Ending(Code.UNSUPPORTED_DATA, "send each picture as a binary message")

    async def _answer(self) -> Ending:
        try:
            await self._send(self._messages.ready())
            failures = 0
            while (arrival := await self._frames.take()) is not None:
                self._busy = True
                error = await self._answered_with(arrival)
                self._busy = False
                if isinstance(error, Overloaded):
                    await self._frames.skip(PAUSE_S)
                    continue
                failures = failures + 1 if error else 0
                if error is not None and error.status >= 500:
                    # A thread may still be at work on the session, whose next frame would meet it there.
                    return _ending_for(error)
                if failures == MOST_FAILURES:
                    return Ending(Code.POLICY_VIOLATION, f"{failures} frames in a row could not be analysed")
            return Ending(Code.NORMAL, "")
        except TimeoutError:
            return Ending(Code.POLICY_VIOLATION, f"no answer could be sent for {self._limits.send_s:g} s")

    async def _answered_with(self, arrival: Arrival) -> ServiceError | None:
        """Analyse a frame and tell the client; returns the error where there was one."""
        skipped = arrival.frame - self._answered - 1
        try:
            result = await self._analysed(arrival)
        except Overloaded as error:
            await self._send(self._messages.overloaded(error, arrival.frame, PAUSE_S))
            return error
        except ServiceError as error:
            self._answered = arrival.frame
            self._observer.live_failed(error.code)
            await self._send(self._messages.error(error, arrival.frame, skipped))
            return error
        self._answered = arrival.frame
        await self._send(self._messages.frame(result, skipped))
        self._observer.live_answered(self._frames.age_s(arrival))
        return None

    async def _analysed(self, arrival: Arrival) -> FrameResult:
        limit = self._limits.answer
        try:
            async with asyncio.timeout(limit["value"]) as scope:
                return await self._analyse(arrival)
        except ServiceError:
            raise
        except Exception as error:
            if scope.expired():
                raise DeadlineExceeded(f"a frame took longer than {limit['value']:g} s", limit=limit) from None
            logger.error("a live frame failed", exc_info=error)
            raise InternalError from None

    async def _send(self, text: str) -> None:
        """Send a message. Raises TimeoutError where the client reads none of those before it."""
        async with asyncio.timeout(self._limits.send_s):
            await self._channel.send(text)


def _ending_for(error: ServiceError) -> Ending:
    """Return how a connection ends for an error of the service's own."""
    code = Code.TRY_AGAIN_LATER if error.status == 503 else Code.INTERNAL_ERROR
    return Ending(code, error.detail.encode()[:120].decode(errors="ignore"))
