"""Analyses as JSON documents: one for a picture, one for a video."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
from pydantic_core import to_json

from model_core.baseline import Change, Comparison, Levels
from service.analysis.results import FaceResult, FrameResult
from service.media.videos import MediaInfo
from service.output.notes import RateNotes
from service.output.schemas import ModelInfo
from service.output.sink import Ending, milliseconds
from service.output.summary import TrackStatistics, TrackSummaries

PIECE_ENTRIES = 64
"""Entries of a list that are sent together: about 64 kB of samples, so that a long document is not copied whole."""


class FrameDocument:
    """The sink of a picture: one document, with the faces by decreasing box area."""

    media_type = "application/json"

    def __init__(self, model: ModelInfo, request_id: str) -> None:
        self._head = {"request_id": request_id, "model": model.model_dump(exclude_none=True)}
        self._image: dict[str, int] = {}
        self._faces: list[dict[str, Any]] = []
        self._baseline: dict[str, Any] | None = None

    def begin(self, info: MediaInfo) -> bytes:
        """See Sink."""
        self._image = {"width": info.width, "height": info.height}
        return b""

    def add(self, result: FrameResult) -> bytes:
        """See Sink."""
        self._faces = [_with_landmarks(face) for face in result.faces]
        self._baseline = None if result.at_rest is None else _with_landmarks(result.at_rest)
        return b""

    def end(self, ending: Ending) -> Iterable[bytes]:
        """See Sink."""
        rest = {"image": self._image, "faces": self._faces, "baseline": self._baseline}
        yield encoded(self._head | rest | {"timings_ms": milliseconds(ending.timings_s)})

    def failure(self, problem: Mapping[str, object]) -> None:
        """See Sink."""


class VideoDocument:
    """The sink of a video as one document, by track.

    What it holds until the end is that document itself, each sample as the bytes that will be sent, and the levels of
    each face where it is compared with its whole track.
    """

    media_type = "application/json"

    def __init__(self, model: ModelInfo, request_id: str, notes: RateNotes, by_track: Comparison | None = None) -> None:
        """`by_track`: the comparison of each face with its whole track, where that was asked for."""
        self._head: dict[str, Any] = {"request_id": request_id, "model": model.model_dump(exclude_none=True)}
        self._notes = notes
        self._video: dict[str, Any] = {}
        self._samples: dict[int, list[bytes]] = {}
        self._by_track = by_track
        self._levels: dict[int, list[Levels]] = {}
        self._frames: list[bytes] = []
        self._summaries = TrackSummaries()

    def begin(self, info: MediaInfo) -> bytes:
        """See Sink."""
        self._head["notes"] = self._notes.of(info)
        self._video = asdict(info)
        return b""

    def add(self, result: FrameResult) -> bytes:
        """See Sink."""
        self._summaries.add(result)
        place = {"time_s": result.time_s, "frame": result.frame}
        for face in result.faces:
            self._samples.setdefault(face.track_id, []).append(encoded(face_values(face) | place))
            if self._by_track is not None and face.levels is not None:
                self._levels.setdefault(face.track_id, []).append(face.levels)
        self._frames.append(encoded(place | {"faces": [face.track_id for face in result.faces]}))
        return b""

    def end(self, ending: Ending) -> Iterable[bytes]:
        """See Sink."""
        video = self._video | {"frames_analyzed": len(self._frames), "truncated": ending.truncated}
        yield encoded(self._head | {"video": video})[:-1] + b',"tracks":['
        for position, (track_id, track) in enumerate(self._summaries):
            place = {"track_id": track_id, "first_s": track.first_s, "last_s": track.last_s}
            yield (b"," if position else b"") + encoded(place)[:-1] + b',"samples":['
            yield from listed(self._compared(track_id, track))
            yield b'],"summary":' + encoded(track.summary()) + b"}"
        yield b'],"frames":['
        yield from listed(self._frames)
        yield b'],"timings_ms":' + encoded(milliseconds(ending.timings_s)) + b"}"

    def failure(self, problem: Mapping[str, object]) -> None:
        """See Sink."""

    def _compared(self, track_id: int, track: TrackStatistics) -> Iterable[bytes]:
        """Return a track's samples, with their changes where they are compared with the whole track.

        The track's statistics take in those changes as they are given.
        """
        samples = self._samples[track_id]
        if self._by_track is None:
            return samples
        return _with_changes(samples, self._by_track.changes_in_track(np.stack(self._levels[track_id])), track)


def _with_changes(
    samples: Iterable[bytes], compared: Iterable[Mapping[str, Change]], track: TrackStatistics
) -> Iterator[bytes]:
    """Add to each sample, a JSON object, its changes."""
    for sample, changes in zip(samples, compared, strict=True):
        track.add_changes(changes)
        yield sample[:-1] + b',"change":' + encoded(_change_values(changes)) + b"}"


def face_values(face: FaceResult) -> dict[str, Any]:
    """Return what every answer tells of a face: its place, its quality and its estimates; absent tasks are left out.

    Its changes are among them where it is compared with a baseline that is known.
    """
    place = {
        "box": face.face.box,
        "detection_confidence": face.face.confidence,
        "pose": face.pose._asdict(),
        "quality": vars(face.quality) | {"reliable": face.quality.reliable},
    }
    change = {} if face.changes is None else {"change": _change_values(face.changes)}
    return place | {name: value for name, value in vars(face.affect).items() if value is not None} | change


def _with_landmarks(face: FaceResult) -> dict[str, Any]:
    return face_values(face) | {"landmarks": face.face.landmarks}


def frame_values(result: FrameResult) -> dict[str, Any]:
    """Return what a stream tells of a frame: its time, its index, and its faces with their tracks."""
    faces = [face_values(face) | {"track_id": face.track_id} for face in result.faces]
    return {"time_s": result.time_s, "frame": result.frame, "faces": faces}


def _change_values(changes: Mapping[str, Change]) -> dict[str, Any]:
    return {name: vars(change) for name, change in changes.items()}


def encoded(values: dict[str, Any]) -> bytes:
    """Return an object as JSON; keys whose value is None are left out, at any depth."""
    return to_json(_present(values), inf_nan_mode="null")


def _present(value: Any) -> Any:
    """The same without None. The serializer would leave it out of models only, not of plain dicts."""
    if isinstance(value, dict):
        return {name: _present(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_present(item) for item in value]
    return value


def listed(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Return the entries of a JSON array in pieces of PIECE_ENTRIES, without its brackets."""
    remaining = iter(entries)
    separator = b""
    while group := list(islice(remaining, PIECE_ENTRIES)):
        yield separator + b",".join(group)
        separator = b","
