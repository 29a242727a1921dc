"""The story of an annotated video: up to three readings of its file, each of which leaves a file for the next.

    analysis    the frames that are analysed  ->  samples: boxes, expressions, valence, arousal, units
    search      all frames                    ->  samples: everything that may be a face
    rendering   all frames, drawn on by what the two have found  ->  the video

The analysis is left out where nothing is drawn, and the search where nothing is hidden. A few frames and the samples
around them are in memory, whatever the length of the video.
"""

from asyncio import to_thread
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from model_core.faces.geometry import Box
from service.analysis.checkpoints import Checkpoints
from service.analysis.pipeline import Pipeline
from service.analysis.results import AnalysisOptions
from service.errors import Limit
from service.media.decoders import DecoderPool, IsolatedSource, RendererPool
from service.media.limits import DecodeLimits
from service.media.videos import MediaInfo, TimedFrame, Window
from service.output.annotation.drawing import Painter, TimeLine
from service.output.annotation.hiding import (
    GROWTH,
    MIN_CONFIDENCE,
    FaceSearch,
    HiddenPlaces,
    grown,
    hide,
    hide_all,
)
from service.output.annotation.samples import Between, Mark, Sample, SampleFile
from service.scheduling.admission import Ticket
from service.telemetry import StageClock

BLOCK_BYTES = 1024 * 1024
"""Bytes of the video that are given together."""

ALL_FRAMES_FPS = 1e6
"""A rate at which every frame of a video is read."""

UNLIMITED_FRAMES = 10**12
"""Frames are limited where they are analysed; the others by the length of the video."""

USUAL_FPS = 25.0
"""Frames a second of a video that does not tell them, for its progress."""

ANALYSIS_MS = 40.0
SEARCH_MS = 30.0
RENDERING_MS = 1.0
"""Milliseconds for a frame in each of the readings, about: by these the progress is shared between them."""

RENDERING_PIXEL_MS = 15e-6
"""Milliseconds for each pixel of a rendered frame beside; detectors and networks see no more of a large frame."""


@dataclass(frozen=True)
class AnnotationOptions:
    """Options of an annotated video."""

    media_type: str
    """One of `encoding.FORMS`."""
    draws: bool = True
    """True if the analysis is drawn on the frames."""
    hides_faces: bool = False
    """True if all faces are hidden."""


@dataclass(frozen=True)
class Studio:
    """The parts by which annotated videos are made."""

    pipeline: Pipeline
    decoders: DecoderPool
    renderers: RendererPool
    limits: DecodeLimits
    max_upload: Limit
    """Largest upload in bytes, by which the size of a result is bounded."""
    scratch: Callable[[], AbstractContextManager[IO[bytes]]]
    """Makes a file on disk that is gone when its block ends."""


class Progress:
    """The share of several readings of a video that is done."""

    def __init__(
        self, window: Window, milliseconds: Callable[[MediaInfo], Sequence[float]], report: Callable[[float], None]
    ) -> None:
        """`milliseconds`: for a second of a video in each reading, about."""
        self._window = window
        self._milliseconds = milliseconds
        self._weights: list[float] = []
        self._report = report
        self._reading = 0

    def next_reading(self) -> None:
        """The reading has ended."""
        self._reading += 1

    def at(self, time_s: float, info: MediaInfo) -> None:
        """The reading has come to a time in seconds."""
        if not self._weights:
            milliseconds = self._milliseconds(info)
            self._weights = [each / sum(milliseconds) for each in milliseconds]
        length_s = self._window.length_s(info)
        share = min(1.0, (time_s - self._window.begin_s(info)) / length_s) if length_s else 0.0
        self._report(sum(self._weights[: self._reading]) + share * self._weights[self._reading])


@dataclass(frozen=True)
class _Painted:
    """A frame that was drawn on."""

    time_s: float
    faces: tuple[Mark, ...] = ()


class VideoAnnotator:
    """Makes one annotated video."""

    def __init__(
        self, studio: Studio, options: AnnotationOptions, window: Window, ticket: Ticket, clock: StageClock
    ) -> None:
        """`window`: the part of the video that is shown; its `fps` is the rate at which it is analysed."""
        self._studio = studio
        self._options = options
        self._window = window
        self._ticket = ticket
        self._clock = clock
        self.truncated = False
        """True if the file ended early because it is damaged; known once the video is given."""

    async def pieces(
        self, upload: IO[bytes], analysis: AnalysisOptions, checkpoints: Checkpoints, report: Callable[[float], None]
    ) -> AsyncGenerator[bytes, None]:
        """Give the video in pieces, all of them at the end; `report` is told the share that is done.

        `checkpoints` are those of the first reading; an attempt after it makes the others anew.
        Raises the ServiceErrors of decoding and queues, StorageFull, and VideoTooLong for a result beyond its limit.
        """
        with ExitStack() as files:
            progress = Progress(self._window, partial(milliseconds, self._options, self._window), report)
            painter: Painter | None = None
            marks: Between | None = None
            hidden: HiddenPlaces | None = None
            if self._options.draws:
                samples = SampleFile(files.enter_context(self._studio.scratch()))
                painter = Painter(await self._analyse(upload, samples, analysis, checkpoints, progress))
                marks = Between(iter(samples))
            if self._options.hides_faces:
                found = SampleFile(files.enter_context(self._studio.scratch()))
                await self._search(upload, found, min(MIN_CONFIDENCE, analysis.min_confidence), progress)
                hidden = HiddenPlaces(iter(found))
            result = files.enter_context(self._studio.scratch())
            await self._render(upload, result, _Retouch(painter, marks, hidden), progress)
            result.seek(0)
            while block := await to_thread(result.read, BLOCK_BYTES):
                yield block

    async def _analyse(
        self,
        upload: IO[bytes],
        samples: SampleFile,
        options: AnalysisOptions,
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> TimeLine:
        source = self._studio.decoders.video(upload, self._studio.limits, self._window)
        begin_s = end_s = 0.0
        count = 0
        stream = self._studio.pipeline.resumed(source, options, self._ticket, self._clock, checkpoints)
        async with aclosing(stream) as results:
            async for result in results:
                begin_s = begin_s if count else result.time_s
                end_s = result.time_s
                count += 1
                samples.add(Sample.of(result))
                progress.at(result.time_s, source.info)
        progress.next_reading()
        return await to_thread(TimeLine, samples, begin_s, end_s, count)  # it reads them all

    async def _search(self, upload: IO[bytes], found: SampleFile, min_confidence: float, progress: Progress) -> None:
        pipeline = self._studio.pipeline
        source = self._studio.decoders.video(upload, *self._all_frames())
        search = FaceSearch(lambda frame, thorough: pipeline.search(frame, min_confidence, thorough=thorough))

        def look(timed: TimedFrame) -> Sample:
            with self._clock.stage("detect"):
                return search(timed)

        async with aclosing(pipeline.visited(source, look, self._ticket, self._clock)) as samples:
            async for sample in samples:
                found.add(sample)
                progress.at(sample.time_s, source.info)
        progress.next_reading()

    async def _render(self, upload: IO[bytes], result: IO[bytes], retouch: "_Retouch", progress: Progress) -> None:
        source = self._studio.renderers.rendering(
            upload, result, self._studio.max_upload, *self._all_frames(), self._options.media_type
        )

        def look(timed: TimedFrame) -> _Painted:
            with self._clock.stage("render"):
                retouch.apply(timed, source)
            return _Painted(timed.time_s)

        async with aclosing(self._studio.pipeline.visited(source, look, self._ticket, self._clock)) as frames:
            async for painted in frames:
                progress.at(painted.time_s, source.info)
        self.truncated = source.truncated

    def _all_frames(self) -> tuple[DecodeLimits, Window]:
        limits = replace(self._studio.limits, max_frames=UNLIMITED_FRAMES)
        return limits, replace(self._window, fps=ALL_FRAMES_FPS)


@dataclass(frozen=True)
class _Retouch:
    """Hides the faces of frames, and draws on them."""

    painter: Painter | None
    marks: Between | None
    hidden: HiddenPlaces | None

    def apply(self, timed: TimedFrame, source: IsolatedSource) -> None:
        """Change a frame in place. What was found is in pixels of its own size, which `source.info` tells."""
        frame = timed.frame
        scaled = partial(_scaled, by=(frame.shape[1] / source.info.width, frame.shape[0] / source.info.height))
        marks = () if self.marks is None else self.marks.at(timed.time_s)
        marks = tuple(replace(mark, box=scaled(mark.box)) for mark in marks)
        if self.hidden is not None:
            places = self.hidden.at(timed.time_s)
            if places is None:
                hide_all(frame)
            else:
                for box in (*map(scaled, places), *(grown(mark.box, GROWTH) for mark in marks)):
                    hide(frame, box)
        if self.painter is not None:
            self.painter.draw(frame, marks, timed.time_s)


def milliseconds(options: AnnotationOptions, window: Window, info: MediaInfo) -> list[float]:
    """Return the milliseconds that a second of a video takes in each of its readings, about."""
    fps = info.fps or USUAL_FPS
    readings = [min(window.fps, fps) * ANALYSIS_MS] if options.draws else []
    if options.hides_faces:
        readings.append(fps * SEARCH_MS)
    return [*readings, fps * (RENDERING_MS + RENDERING_PIXEL_MS * info.width * info.height)]


def _scaled(box: Box, by: tuple[float, float]) -> Box:
    return Box(by[0] * box.x, by[1] * box.y, by[0] * box.width, by[1] * box.height)
