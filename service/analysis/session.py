"""The state of one request's analysis between frames: face positions, tracks, recurrent states, smoothing windows."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from model_core.baseline import Levels
from model_core.faces.cuts import SceneCuts
from model_core.faces.geometry import Face
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality
from model_core.faces.tracking import FaceTracker
from model_core.inference.encoder import Features
from model_core.inference.predictor import BundleEnsemble, Outputs
from model_core.inference.smoothing import LOOKAHEAD_S, CausalSmoother, OfflineSmoother
from service.analysis.baselines import build_comparison
from service.analysis.choosing import ChosenPeople
from service.analysis.locating import LocatedFrame, Locator
from service.analysis.results import AnalysisOptions, FaceResult, FrameResult, KnownBaseline, Smoothing
from service.media.videos import TimedFrame
from service.telemetry import StageClock

_CHANGING = ("_follower", "_cuts", "_tracker", "_chosen", "_wanted", "_states", "_smoother", "_comparison")
"""The attributes of a session in which it remembers what it has seen."""

MOST_FACES = 64
"""Most faces of a frame that are tracked."""


class Session:
    """Analyses the frames of one source in their order. It keeps state by track, but no results.

    `locate` runs in pool threads, one call at a time; `feed` and `finish` are called by one caller, one at a time. The
    two sides share nothing, so that a frame is located while an earlier one is fed.
    """

    def __init__(self, locator: Locator, ensemble: BundleEnsemble, options: AnalysisOptions, clock: StageClock) -> None:
        self._locator = locator
        self._follower = locator.follower()
        self._cuts = SceneCuts()
        self._tracker = FaceTracker()
        self._chosen = ChosenPeople(options.max_faces)
        self._wanted = options.max_faces
        self._ensemble = ensemble
        self._states = ensemble.track_states()
        self._smoother = build_smoother(options.smoothing)
        self._comparison = build_comparison(options.baseline, ensemble.comparison)
        self._options = options
        self._clock = clock

    @property
    def state(self) -> dict[str, object]:
        """All that the session remembers, by name; to be looked at while no frame is located or fed."""
        return {name: vars(self)[name] for name in _CHANGING}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on where a session with the same options was. Raises ValueError where its state has other names."""
        if state.keys() != set(_CHANGING):
            raise ValueError("this is no session's state")
        vars(self).update(state)

    @property
    def fixed(self) -> tuple[object, ...]:
        """The objects that the state refers to and that never change; of a session with the same options, as many."""
        bundles = self._ensemble.bundles
        parts = [part for each in bundles for part in (each, each.recurrent, each.manifest.temporal)]
        return (self._locator.detector, self._ensemble, self._ensemble.comparison, *parts)

    def locate(self, timed: TimedFrame) -> LocatedFrame:
        """Find, track and align the faces of the next frame; its pixels are not kept."""
        with self._clock.stage("track"):
            other_scene = self._cuts.look(timed.frame)
        faces = self._detect(timed, scan=other_scene)
        if self._is_cut(timed, faces):
            self._tracker.end_all()
            faces = faces if other_scene else self._detect(timed, scan=True)
        with self._clock.stage("track"):
            tracked = self._tracker.update(faces, timed.time_s)
            live_ids = self._tracker.live_ids
            self._cuts.remember(timed.frame, {each.track_id: each.face.box for each in tracked}, timed.time_s)
            chosen = self._chosen.choose(tracked, live_ids, timed.time_s)
        with self._clock.stage("align"):
            return LocatedFrame(timed.time_s, timed.index, self._locator.align(timed.frame, chosen), live_ids)

    def _detect(self, timed: TimedFrame, scan: bool) -> list[Face]:
        """Return the faces of a frame; with `scan`, none is looked for around its old place."""
        if scan:
            self._follower.reset()
        with self._clock.stage("detect"):
            faces = self._follower.detect(
                timed.frame, timed.time_s, min_confidence=self._options.min_confidence, max_faces=self._wanted
            )
        # Reported people need not be the largest. In the first frame they are, and a picture has no second.
        self._wanted = min(MOST_FACES, 2 * self._options.max_faces + 4)
        return faces

    def _is_cut(self, timed: TimedFrame, faces: Sequence[Face]) -> bool:
        """Return True if a frame with these faces is the first behind a scene cut."""
        with self._clock.stage("track"):
            owners = self._tracker.match(faces, timed.time_s)
            known = {owner: face.box for owner, face in zip(owners, faces, strict=True) if owner is not None}
            return self._cuts.is_cut(timed.frame, known, timed.time_s)

    def feed(self, frame: LocatedFrame, features: Sequence[Features]) -> list[FrameResult]:
        """Take in the next located frame and the features of its faces.

        Returns the frames whose results are known now: this one, but with offline smoothing those that it completes,
        perhaps none.
        """
        # Nothing may grow with the number of tracks that a long video has had.
        self._states.keep(frame.live_ids)
        self._smoother.keep(frame.live_ids)
        ids = [located.track_id for located in frame.faces]
        outputs = self._outputs(ids, features, frame.time_s)
        faces = tuple(
            TrackedOutputs(located.track_id, located.face, located.pose, located.quality, values)
            for located, values in zip(frame.faces, outputs, strict=True)
        )
        ready = self._smoother.add(TrackedFrame(frame.time_s, frame.index, faces, frame.live_ids))
        return [self._result(each) for each in ready]

    @property
    def blocking(self) -> bool:
        """True if `feed` may take long: temporal networks run in it, or a delay line gives many frames at once."""
        return self._ensemble.temporal or self._options.smoothing == "offline"

    @property
    def delayed(self) -> int:
        """Frames that have been fed and whose results wait for later ones."""
        return self._smoother.delayed

    def finish(self) -> list[FrameResult]:
        """Return the delayed frames; no frame comes after them."""
        return [self._result(each) for each in self._smoother.finish()]

    def _outputs(self, ids: Sequence[int], features: Sequence[Features], time_s: float) -> list[Outputs]:
        if not self._ensemble.temporal:
            return self._ensemble.outputs(features)
        with self._clock.stage("temporal"):
            return [self._states.step(i, face, time_s) for i, face in zip(ids, features, strict=True)]

    def _result(self, frame: "TrackedFrame") -> FrameResult:
        affects = self._ensemble.affects([face.outputs for face in frame.faces])
        faces = tuple(
            FaceResult(tracked.track_id, tracked.face, tracked.pose, affect, tracked.quality)
            for tracked, affect in zip(frame.faces, affects, strict=True)
        )
        if self._options.baseline is not None:
            levels = self._ensemble.levels([face.outputs for face in frame.faces])
            faces = tuple(self._compared(*pair, frame.time_s) for pair in zip(faces, levels, strict=True))
            self._comparison.keep(frame.live_ids)
        baseline = self._options.baseline
        return FrameResult(
            frame.time_s, frame.index, faces, baseline.face if isinstance(baseline, KnownBaseline) else None
        )

    def _compared(self, face: FaceResult, levels: Levels, time_s: float) -> FaceResult:
        return replace(face, levels=levels, changes=self._comparison.changes(face.track_id, levels, time_s))


@dataclass(frozen=True)
class TrackedOutputs:
    """A face with its track, and its uncalibrated outputs."""

    track_id: int
    face: Face
    pose: Pose
    quality: Quality
    outputs: Outputs


@dataclass(frozen=True)
class TrackedFrame:
    """A frame on its way through a smoother."""

    time_s: float
    index: int
    faces: tuple[TrackedOutputs, ...]
    live_ids: frozenset[int]
    """Ids of the tracks that may get faces in later frames; all others have ended."""


class FrameSmoother(Protocol):
    """Smooths the outputs of each track over time, frame by frame."""

    @property
    def delayed(self) -> int:
        """Frames that wait for later ones."""
        ...

    def add(self, frame: TrackedFrame) -> Sequence[TrackedFrame]:
        """Take in the next frame, and return those that are smoothed now, in their order."""
        ...

    def finish(self) -> Sequence[TrackedFrame]:
        """Return the frames that are left; no frame comes after them."""
        ...

    def keep(self, track_ids: Collection[int]) -> None:
        """Forget all tracks but these, as far as no waiting frame needs them."""
        ...


def build_smoother(smoothing: Smoothing) -> FrameSmoother:
    """Return the smoother of a request's option."""
    match smoothing:
        case "none":
            return NoSmoothing()
        case "causal":
            return CausalSmoothing()
        case "offline":
            return OfflineSmoothing()


class NoSmoothing:
    """Outputs as they are."""

    delayed = 0

    def add(self, frame: TrackedFrame) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        return [frame]

    def finish(self) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        return []

    def keep(self, track_ids: Collection[int]) -> None:
        """See FrameSmoother."""


class CausalSmoothing:
    """Exponential averages of each track's past; see `CausalSmoother`."""

    delayed = 0

    def __init__(self) -> None:
        self._tracks: dict[int, CausalSmoother] = {}

    def add(self, frame: TrackedFrame) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        return [_with_outputs(frame, [self._smoothed(face, frame.time_s) for face in frame.faces])]

    def finish(self) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        return []

    def keep(self, track_ids: Collection[int]) -> None:
        """See FrameSmoother."""
        self._tracks = {track_id: track for track_id, track in self._tracks.items() if track_id in track_ids}

    def _smoothed(self, face: TrackedOutputs, time_s: float) -> Outputs:
        return self._tracks.setdefault(face.track_id, CausalSmoother()).update(face.outputs, time_s)


class OfflineSmoothing:
    """A delay line: a frame leaves when all that its average reaches has come, LOOKAHEAD_S later."""

    def __init__(self) -> None:
        self._waiting: deque[TrackedFrame] = deque()
        self._tracks: dict[int, OfflineSmoother] = {}

    @property
    def delayed(self) -> int:
        """See FrameSmoother."""
        return len(self._waiting)

    def add(self, frame: TrackedFrame) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        for face in frame.faces:
            self._tracks.setdefault(face.track_id, OfflineSmoother()).add(face.outputs, frame.time_s)
        self._waiting.append(frame)
        ready = []
        while self._waiting[0].time_s + LOOKAHEAD_S < frame.time_s:
            ready.append(self._next())
        return ready

    def finish(self) -> Sequence[TrackedFrame]:
        """See FrameSmoother."""
        return [self._next() for _ in range(len(self._waiting))]

    def keep(self, track_ids: Collection[int]) -> None:
        """See FrameSmoother."""
        if len(self._tracks) <= len(track_ids):
            return
        needed = set(track_ids) | {face.track_id for frame in self._waiting for face in frame.faces}
        self._tracks = {track_id: track for track_id, track in self._tracks.items() if track_id in needed}

    def _next(self) -> TrackedFrame:
        frame = self._waiting.popleft()
        smoothed = []
        for face in frame.faces:
            track = self._tracks[face.track_id]
            smoothed.append(track.smoothed(frame.time_s))
            track.forget(frame.time_s)
        return _with_outputs(frame, smoothed)


def _with_outputs(frame: TrackedFrame, outputs: Sequence[Outputs]) -> TrackedFrame:
    faces = tuple(replace(face, outputs=values) for face, values in zip(frame.faces, outputs, strict=True))
    return replace(frame, faces=faces)
