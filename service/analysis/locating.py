"""Find and align the faces of decoded frames: the blocking half of an analysis, which runs in pool threads."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from threading import Event, Lock
from typing import Generic, Protocol, TypeVar

from model_core.faces.alignment import align
from model_core.faces.detection import FaceDetector
from model_core.faces.following import FollowingDetector
from model_core.faces.geometry import Crop, Face, Frame, TrackedFace
from model_core.faces.pose import Pose, head_pose
from model_core.faces.quality import JUDGED_CROP, Quality, assess
from model_core.preprocessing import InputSpec
from service.media.sources import Source
from service.media.videos import TimedFrame
from service.scheduling.watchdog import Watchdog
from service.telemetry import StageClock

CHUNK_FRAMES = 4
"""Frames of a video that are decoded together and share a forward pass; few, so that single frames get between."""

CHUNK_FACES = 32
"""Faces after which a chunk ends early: a crowd fills forward passes by itself, and its frames need not wait."""

TURN_S = 0.25
"""Seconds after which a chunk ends early, even without a frame: videos of which long parts are skipped take turns."""


@dataclass(frozen=True)
class LocatedFace:
    """A face of a frame that could be aligned."""

    track_id: int
    """Of the track that the face belongs to, from 1."""
    face: Face
    pose: Pose
    """Of the head in the picture, from the face's landmarks."""
    quality: Quality
    crops: tuple[Crop, ...]
    """One for each encoder."""


@dataclass(frozen=True)
class LocatedFrame:
    """A frame, without its pixels, and its faces by decreasing box area."""

    time_s: float
    """The source's timestamp in seconds."""
    index: int
    """Index among all frames of the source, from 0."""
    faces: tuple[LocatedFace, ...]
    live_ids: frozenset[int]
    """Ids of the tracks that may still get faces; all others have ended."""


class Looked(Protocol):
    """A frame and what was found when it was looked at."""

    @property
    def faces(self) -> Sequence[object]:
        """The faces that were found."""
        ...


L = TypeVar("L", bound=Looked)
L_co = TypeVar("L_co", bound=Looked, covariant=True)


@dataclass(frozen=True)
class Chunk(Generic[L_co]):
    """Consecutive frames of a source, at most CHUNK_FRAMES of them, and none where the next one took too long."""

    frames: tuple[L_co, ...]
    is_last: bool
    """True where the source is known to have no frame after these."""


class Locator:
    """Finds faces, and aligns them for each encoder's input."""

    def __init__(self, detector: FaceDetector, inputs: Sequence[InputSpec], scan_every_s: float) -> None:
        self.detector = detector
        self._shapes = [(spec.alignment, spec.size) for spec in inputs]
        self._scan_every_s = scan_every_s

    def follower(self) -> FollowingDetector:
        """Return a detector for the consecutive frames of one source."""
        return FollowingDetector(self.detector, self._scan_every_s)

    def search(self, frame: Frame, min_confidence: float, *, thorough: bool) -> list[Face]:
        """Return all faces of a frame, uint8 [H, W, 3] RGB; see FaceDetector."""
        return self.detector.detect(frame, min_confidence=min_confidence, thorough=thorough)

    def align(self, frame: Frame, faces: Sequence[TrackedFace]) -> tuple[LocatedFace, ...]:
        """Cut the faces out of a frame; a false detection, whose landmarks coincide, is left out."""
        located = []
        for tracked in faces:
            face = tracked.face
            try:
                crops, judged = self._crops(frame, face)
                pose = head_pose(face.landmarks)
            except ValueError:
                continue
            quality = assess(face, pose, judged, frame.shape[:2])
            located.append(LocatedFace(tracked.track_id, face, pose, quality, crops))
        return tuple(located)

    def _crops(self, frame: Frame, face: Face) -> tuple[tuple[Crop, ...], Crop]:
        """A crop for each encoder, and the one whose quality is judged; all share what has the same shape."""
        shapes = dict.fromkeys([*self._shapes, JUDGED_CROP])
        made = {shape: align(frame, face.landmarks, *shape) for shape in shapes}
        return tuple(made[shape] for shape in self._shapes), made[JUDGED_CROP]


class _End(Enum):
    """Stands for the frame behind the last one."""

    END = auto()


class FrameReader(Generic[L]):
    """Reads a source chunk by chunk in whichever pool thread asks, and lets pixels go at once.

    This is the one place where reading is cancelled: `cancel` may be called from any thread, also while another one is
    amid a chunk; the decoder is released as soon as nobody reads from it.
    """

    def __init__(
        self,
        source: Source,
        look: Callable[[TimedFrame], L],
        clock: StageClock,
        turn_s: float = math.inf,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`look`: called with each frame, whose pixels are there for the length of the call.

        `turn_s`: seconds after which a chunk ends early; by default a call waits for frames however long it takes.

        `now_s` gives the seconds that turns are measured by.
        """
        self._cancelled = Event()
        self._frames = source.frames(self._cancelled)
        self._look = look
        self._clock = clock
        self._turn_s = turn_s
        self._now_s = now_s
        self._reading = Lock()

    def next_chunk(self) -> Chunk[L]:
        """Decode and look at the next frames; opens the source at first. Raises the ServiceErrors of decoding."""
        frames: list[L] = []
        is_last = False
        try:
            with self._reading:
                end_s = self._now_s() + self._turn_s
                while len(frames) < CHUNK_FRAMES and sum(len(frame.faces) for frame in frames) < CHUNK_FACES:
                    timed = self._next_frame(end_s)
                    if timed is _End.END:
                        is_last = True
                        break
                    if timed is None:
                        break
                    frames.append(self._look(timed))
        finally:
            if self._cancelled.is_set():
                self._release()
        return Chunk(tuple(frames), is_last)

    def cancel(self) -> None:
        """End the reading before its next frame, and release the decoder, which takes milliseconds if nobody reads."""
        self._cancelled.set()
        self._release()

    def _next_frame(self, end_s: float) -> "TimedFrame | _End | None":
        """Return the next frame, or None where it is not ready by a time."""
        with self._clock.stage("decode"):
            while not self._cancelled.is_set():
                timed = next(self._frames, _End.END)
                if timed is not None or self._now_s() >= end_s:
                    return timed
        return _End.END

    def _release(self) -> None:
        """Close the source, unless a thread reads from it, which then closes it itself."""
        if self._reading.acquire(blocking=False):
            try:
                self._frames.close()
            finally:
                self._reading.release()


class WatchedDetector:
    """A face detector whose calls are steps of the watchdog: they are short, so one that lasts hangs."""

    def __init__(self, detector: FaceDetector, watchdog: Watchdog) -> None:
        self._detector = detector
        self._watchdog = watchdog

    @property
    def name(self) -> str:
        """See FaceDetector."""
        return self._detector.name

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        """See FaceDetector."""
        with self._watchdog.step():
            return self._detector.detect(frame, min_confidence=min_confidence, max_faces=max_faces, thorough=thorough)

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        """See FaceDetector."""
        with self._watchdog.step():
            return self._detector.follow(frame, face, min_confidence=min_confidence)
