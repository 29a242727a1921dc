"""The interface of sinks, which turn an analysis into the bytes of an answer; one class for each media type."""

from asyncio import to_thread
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.analysis.results import FrameResult
from service.media.videos import MediaInfo


@dataclass(frozen=True)
class Ending:
    """Facts that are known when the last frame has been analysed."""

    truncated: bool
    """Whether the file ended early because it is damaged."""
    timings_s: Mapping[str, float]
    """Seconds by stage, and in all."""


class Sink(Protocol):
    """Takes in one analysis frame by frame, and gives the pieces of its answer as soon as they are known.

    Calls come in this order: `begin`, `add` for each frame, then `end`, or `failure` where the analysis fails after a
    piece has been given.
    """

    media_type: str

    def begin(self, info: MediaInfo) -> bytes:
        """Return the answer's beginning; empty where nothing is sent before the end."""
        ...

    def add(self, result: FrameResult) -> bytes:
        """Take in the next frame; returns what it adds to the answer, perhaps nothing."""
        ...

    def end(self, ending: Ending) -> Iterable[bytes]:
        """Return the rest of the answer, in pieces."""
        ...

    def failure(self, problem: Mapping[str, object]) -> bytes | None:
        """Return the last piece of an answer that fails with an RFC 9457 document; None where none can tell it."""
        ...


async def made_in_threads(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Give pieces one after the other, each made in a thread: those of a long document take tenths of a second."""
    remaining = iter(pieces)
    while (piece := await to_thread(next, remaining, None)) is not None:
        yield piece


def milliseconds(timings_s: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by stage as the answer's `timings_ms`."""
    return {stage: round(1000 * seconds, 2) for stage, seconds in timings_s.items()}
