"""A video's analysis as NDJSON: one JSON object a line, each sent as soon as it is known."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from service.analysis.results import FrameResult
from service.media.videos import MediaInfo, Window
from service.output.document import encoded, frame_values, listed
from service.output.notes import RateNotes
from service.output.schemas import ModelInfo
from service.output.sink import Ending, milliseconds
from service.output.summary import TrackStatistics, TrackSummaries

PROGRESS_EVERY_S = 1.0
"""Seconds of the video between two `progress` objects, at least."""


class NdjsonStream:
    """The sink that gives `video`, then a `frame` for each analysed frame with `progress` between, last `summary`.

    Where the analysis fails the last object is an `error` instead. Nothing is kept but running sums of each track.
    """

    media_type = "application/x-ndjson"

    def __init__(self, model: ModelInfo, request_id: str, window: Window, notes: RateNotes) -> None:
        self._head = {"request_id": request_id, "model": model.model_dump(exclude_none=True)}
        self._notes = notes
        self._window = window
        self._length_s: float | None = None
        self._begin_s = window.start_s
        self._told_s = window.start_s
        self._count = 0
        self._summaries = TrackSummaries()

    def begin(self, info: MediaInfo) -> bytes:
        """See Sink."""
        self._length_s = self._window.length_s(info)
        self._begin_s = self._told_s = self._window.begin_s(info)
        return _line("video", self._head | {"notes": self._notes.of(info), "video": asdict(info)})

    def add(self, result: FrameResult) -> bytes:
        """See Sink."""
        self._count += 1
        self._summaries.add(result)
        line = _line("frame", frame_values(result))
        if result.time_s - self._told_s < PROGRESS_EVERY_S:
            return line
        self._told_s = result.time_s
        done_s = result.time_s - self._begin_s
        return line + _line("progress", {"done_s": done_s, "duration_s": self._length_s})

    def end(self, ending: Ending) -> Iterable[bytes]:
        """See Sink."""
        yield b'{"type":"summary","tracks":['
        yield from listed(encoded(_summarized(track_id, track)) for track_id, track in self._summaries)
        rest = {
            "frames_analyzed": self._count,
            "truncated": ending.truncated,
            "timings_ms": milliseconds(ending.timings_s),
        }
        yield b"]," + encoded(rest)[1:] + b"\n"

    def failure(self, problem: Mapping[str, object]) -> bytes:
        """See Sink. The problem's own `type`, a URN of its code, gives way to the object's."""
        return _line("error", {name: value for name, value in problem.items() if name != "type"})


def _summarized(track_id: int, track: TrackStatistics) -> dict[str, Any]:
    return {"track_id": track_id, "first_s": track.first_s, "last_s": track.last_s, "summary": track.summary()}


def _line(kind: str, values: Mapping[str, Any]) -> bytes:
    return encoded({"type": kind} | dict(values)) + b"\n"
