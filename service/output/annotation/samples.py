"""Estimates about a video's frames, as lines of a file: an hour of them need not be in memory."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Self

from model_core.faces.geometry import Box
from service.analysis.results import FaceResult, FrameResult


@dataclass(frozen=True)
class Mark:
    """A face as it is drawn or hidden."""

    track_id: int
    box: Box
    """In pixels of its frame."""
    label: str | None = None
    """Its top expression."""
    valence: float | None = None
    arousal: float | None = None
    units: tuple[str, ...] = ()
    """Names of the active action units."""

    @classmethod
    def of(cls, face: FaceResult) -> Self:
        """Return what is drawn of an analysed face."""
        affect = face.affect
        units = tuple(name for name, unit in (affect.action_units or {}).items() if unit.active)
        label = None if affect.expression is None else affect.expression.label
        return cls(face.track_id, face.face.box, label, affect.valence, affect.arousal, units)


@dataclass(frozen=True)
class Sample:
    """A frame with its faces."""

    time_s: float
    """The source's timestamp in seconds."""
    frame: int
    """Index among all frames of the source, from 0."""
    faces: tuple[Mark, ...] = field(default=())

    @classmethod
    def of(cls, result: FrameResult) -> Self:
        """Return what is drawn of an analysed frame."""
        return cls(result.time_s, result.frame, tuple(Mark.of(face) for face in result.faces))


class SampleFile:
    """Samples in an open file, in the order of their frames: written one by one, then read as often as need be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, sample: Sample) -> None:
        """Append a sample. Raises OSError."""
        faces = [_values(mark) for mark in sample.faces]
        self._file.write(json.dumps([sample.time_s, sample.frame, faces]).encode() + b"\n")

    def __iter__(self) -> Iterator[Sample]:
        """Read the samples from the first one on; one reading at a time."""
        self._file.seek(0)
        for line in self._file:
            time_s, frame, faces = json.loads(line)
            yield Sample(time_s, frame, tuple(_mark(values) for values in faces))


def _values(mark: Mark) -> list[Any]:
    box = mark.box
    place = [round(value, 2) for value in (box.x, box.y, box.width, box.height)]
    return [mark.track_id, place, mark.label, mark.valence, mark.arousal, mark.units]


def _mark(values: Sequence[Any]) -> Mark:
    track_id, place, label, valence, arousal, units = values
    return Mark(track_id, Box(*place), label, valence, arousal, tuple(units))


class Between:
    """The marks of every frame of a video of which some frames have samples.

    Where a track is in the samples before and after a frame, its box is on the straight line between the two; all else
    is as in the sample before.
    """

    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples
        self._before: Sample | None = None
        self._after = next(samples, None)

    def at(self, time_s: float) -> tuple[Mark, ...]:
        """Return the marks at a time in seconds, which never decreases between calls."""
        while self._after is not None and self._after.time_s <= time_s:
            self._before = self._after
            self._after = next(self._samples, None)
        if self._before is None:
            return ()
        if self._after is None:
            return self._before.faces
        share = (time_s - self._before.time_s) / (self._after.time_s - self._before.time_s)
        later = {mark.track_id: mark.box for mark in self._after.faces}
        return tuple(_moved(mark, later.get(mark.track_id, mark.box), share) for mark in self._before.faces)


def _moved(mark: Mark, to: Box, share: float) -> Mark:
    box = mark.box
    x, y, width, height = (
        one + share * (other - one)
        for one, other in ((box.x, to.x), (box.y, to.y), (box.width, to.width), (box.height, to.height))
    )
    return Mark(mark.track_id, Box(x, y, width, height), mark.label, mark.valence, mark.arousal, mark.units)
