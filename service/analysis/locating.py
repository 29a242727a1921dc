"""The blocking half of the pipeline: decode, detect, align. Runs in the thread pool and knows no event loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from model_core.faces.alignment import align
from model_core.faces.detection import FaceDetector
from model_core.faces.following import FollowingDetector
from model_core.faces.geometry import Crop, Face, Frame
from model_core.faces.quality import Quality, assess
from model_core.preprocessing import InputSpec
from service.analysis.results import FaceOptions, VideoOptions
from service.media.decoding import TimedFrame, Video, decode_image, open_video
from service.media.limits import DecodeLimits
from service.scheduling.watchdog import Watchdog
from service.telemetry import StageClock

CHUNK_FRAMES = 4
"""Frames of a video that are decoded together and share a forward pass; few, so that single frames get between."""


@dataclass(frozen=True)
class LocatedFaces:
    """The faces of a frame that can be aligned, each with a crop for each encoder, and how good these are."""

    faces: tuple[Face, ...]
    crops: tuple[tuple[Crop, ...], ...]
    qualities: tuple[Quality, ...]


@dataclass(frozen=True)
class LocatedPicture:
    """A decoded picture: its size in pixels, and its faces."""

    width: int
    height: int
    located: LocatedFaces


@dataclass(frozen=True)
class LocatedFrame:
    """A frame of a video, by its timestamp and index in the source, and its faces."""

    time_s: float
    index: int
    located: LocatedFaces


class Locator:
    """Finds faces, and aligns them for each encoder's input."""

    def __init__(
        self, detector: FaceDetector, inputs: Sequence[InputSpec], limits: DecodeLimits, scan_every_s: float
    ) -> None:
        self._detector = detector
        self._shapes = [(spec.alignment, spec.size) for spec in inputs]
        self._limits = limits
        self._scan_every_s = scan_every_s

    def picture(self, file: IO[bytes], options: FaceOptions, clock: StageClock) -> LocatedPicture:
        """Decode a picture and locate its faces. Raises the ServiceErrors of decoding."""
        with clock.stage("decode"):
            frame = decode_image(file.read(), self._limits)
        with clock.stage("detect"):
            found = self._detector.detect(frame, min_confidence=options.min_confidence, max_faces=options.max_faces)
        height, width = frame.shape[:2]
        return LocatedPicture(width, height, self._align(frame, found, clock))

    def open(self, path: Path, options: VideoOptions, clock: StageClock) -> "VideoReader":
        """Open a video file. Raises the ServiceErrors of decoding."""
        video = open_video(path, self._limits, fps=options.fps, start_s=options.start_s, end_s=options.end_s)
        following, faces = FollowingDetector(self._detector, self._scan_every_s), options.faces

        def locate(timed: TimedFrame) -> LocatedFaces:
            with clock.stage("detect"):
                found = following.detect(
                    timed.frame, timed.time_s, min_confidence=faces.min_confidence, max_faces=faces.max_faces
                )
            return self._align(timed.frame, found, clock)

        return VideoReader(video, locate, clock)

    def _align(self, frame: Frame, found: Sequence[Face], clock: StageClock) -> LocatedFaces:
        aligned = []
        with clock.stage("align"):
            for face in found:
                try:
                    crops = self._crops(frame, face)
                except ValueError:
                    continue  # a false detection: its landmarks coincide
                aligned.append((face, crops, assess(face.box, crops[0])))
        return LocatedFaces(*zip(*aligned, strict=True)) if aligned else LocatedFaces((), (), ())

    def _crops(self, frame: Frame, face: Face) -> tuple[Crop, ...]:
        """A crop for each encoder; encoders that look at the same part of the frame share it."""
        made = {shape: align(frame, face.landmarks, *shape) for shape in dict.fromkeys(self._shapes)}
        return tuple(made[shape] for shape in self._shapes)


class VideoReader:
    """A video's located frames, a chunk at a time, in whichever thread asks; pixels are let go at once."""

    def __init__(self, video: Video, locate: Callable[[TimedFrame], LocatedFaces], clock: StageClock) -> None:
        self.video = video
        self._frames = iter(video)
        self._locate = locate
        self._clock = clock
        # A cancelled request closes the video while a thread may still be reading from it, or hang.
        self._lock = Lock()
        self._closed = False

    def next_chunk(self) -> list[LocatedFrame]:
        """The next frames; empty at the end, and after close."""
        chunk: list[LocatedFrame] = []
        with self._lock:
            while not self._closed and len(chunk) < CHUNK_FRAMES:
                timed = self._next_frame()
                if timed is None:
                    break
                chunk.append(LocatedFrame(timed.time_s, timed.index, self._locate(timed)))
        if self._closed:
            self.close()
        return chunk

    def _next_frame(self) -> TimedFrame | None:
        with self._clock.stage("decode"):
            return next(self._frames, None)

    def stop(self) -> None:
        """End the reading before its next frame; returns at once."""
        self.video.stop()

    def close(self) -> None:
        """Release the decoder; where a chunk is being read, whoever reads it does so at its end. Returns at once."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self.video.close()
            finally:
                self._lock.release()


class WatchedDetector:
    """A face detector whose calls are steps of the watchdog: they are short, so one that lasts hangs."""

    def __init__(self, detector: FaceDetector, watchdog: Watchdog) -> None:
        self._detector = detector
        self._watchdog = watchdog

    @property
    def name(self) -> str:
        """See FaceDetector."""
        return self._detector.name

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """See FaceDetector."""
        with self._watchdog.step():
            return self._detector.detect(frame, min_confidence=min_confidence, max_faces=max_faces)
