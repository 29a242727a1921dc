"""What a long analysis keeps of itself, so that another process can go on with it where its own has died.

Now and then, while no frame is in flight, a record is added to a journal: the results since the record before, and all
that the session remembers. Whoever takes the analysis up is given the results of all records as if they were computed
again, restores what the last one remembers, and reads on behind its last frame. So the results, and whatever is made of
them, are those of an analysis that was never disturbed.
"""

import asyncio
import json
import time
from asyncio import to_thread
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import structlog

from model_core.affect import ActionUnit, Affect, Expression
from model_core.baseline import Change
from model_core.faces.cuts import SceneCuts
from model_core.faces.following import FollowingDetector
from model_core.faces.geometry import Box, Face, Landmarks, Point
from model_core.faces.motion import ConstantVelocity, FaceMotion, Place
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality
from model_core.faces.tracking import FaceTracker, Track
from model_core.inference.memory import TrackMemory
from model_core.inference.predictor import TrackStates
from model_core.inference.smoothing import CausalSmoother, OfflineSmoother
from service.analysis.baselines import Beginning, NoComparison, WithFirstSeconds
from service.analysis.choosing import ChosenPeople
from service.analysis.locating import Chunk, LocatedFrame
from service.analysis.results import FaceResult, FrameResult
from service.analysis.session import (
    CausalSmoothing,
    NoSmoothing,
    OfflineSmoothing,
    Session,
    TrackedFrame,
    TrackedOutputs,
)
from service.analysis.snapshots import Snapshots
from service.media.sources import ResumableSource, Source
from service.media.videos import MediaInfo

CHECKPOINT_S = 10.0
"""Seconds of work between two checkpoints: so much is done again at most."""

RESULTS: Final = (
    FrameResult,
    FaceResult,
    Face,
    Box,
    Landmarks,
    Point,
    Pose,
    Quality,
    Affect,
    Expression,
    ActionUnit,
    Change,
)
"""The classes that a result is made of."""

STATE: Final = (
    FollowingDetector,
    Face,
    Box,
    Landmarks,
    Point,
    SceneCuts,
    FaceTracker,
    Track,
    FaceMotion,
    ConstantVelocity,
    Place,
    ChosenPeople,
    TrackStates,
    TrackMemory,
    NoSmoothing,
    CausalSmoothing,
    CausalSmoother,
    OfflineSmoothing,
    OfflineSmoother,
    TrackedFrame,
    TrackedOutputs,
    Pose,
    Quality,
    NoComparison,
    WithFirstSeconds,
    Beginning,
)
"""The classes that a video's session is made of."""

logger = structlog.get_logger("service")


class Journal(Protocol):
    """Records on disk; what a crash has damaged ends the reading. Its calls block, and raise OSError."""

    def records(self) -> Iterator[bytes]:
        """Read the records that earlier attempts have left, from the first one on."""
        ...

    def append(self, record: bytes, *, lasting: bool = True) -> None:
        """Add a record, which is on disk before this returns unless `lasting` is False."""
        ...

    def take_over(self) -> None:
        """Have all records on disk, and give up those of earlier attempts that were not added anew."""
        ...


@dataclass(frozen=True)
class _Record:
    """A record as it was read."""

    info: MediaInfo
    times_s: Sequence[float]
    """Timestamps of the frames that were located since the record before."""
    results: Sequence[FrameResult]
    """With offline smoothing these are not yet those of the last frames."""


class Checkpoints:
    """The checkpoints of one analysis."""

    def __init__(
        self, journal: Journal, made_by: str, every_s: float = CHECKPOINT_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`made_by`: names the program and the bundles; records of others are not used.

        `every_s`: seconds of work between two checkpoints, as `now_s` tells them.
        """
        self._journal = journal
        self._made_by = made_by
        self._every_s = every_s
        self._now_s = now_s
        self._kept_s = now_s()
        self._times_s: list[float] = []
        self._results: list[FrameResult] = []

    async def past(self, session: Session, source: ResumableSource) -> AsyncGenerator[FrameResult, None]:
        """Give the results that were kept, and bring the session and the source to where these end.

        `source.info` is known from the first one on. Raises OSError.
        """
        times_s: list[float] = []
        records = self._journal.records()
        while (record := await to_thread(self._next, records, session)) is not None:
            times_s += record.times_s
            source.info = record.info
            for result in record.results:
                yield result
                await asyncio.sleep(0)  # a record has many, and others wait for the event loop
        if times_s:
            await to_thread(source.go_on, source.info, times_s)
            logger.info("an analysis goes on", time_s=times_s[-1])
        await to_thread(self._journal.take_over)
        self._kept_s = self._now_s()

    def due(self) -> bool:
        """Return True if the last checkpoint was long ago."""
        return self._now_s() - self._kept_s >= self._every_s

    def note(self, chunk: Chunk[LocatedFrame], results: Sequence[FrameResult]) -> None:
        """Take in frames that were located, and the results that they have completed."""
        self._times_s += [frame.time_s for frame in chunk.frames]
        self._results += results

    async def keep(self, session: Session, source: Source) -> None:
        """Add a record, while no frame is in flight; without a new frame there is none. Raises OSError."""
        self._kept_s = self._now_s()
        if self._times_s:
            await to_thread(self._append, session, source.info)
            self._times_s = []
            self._results = []

    def _append(self, session: Session, info: MediaInfo) -> None:
        record = {
            "made_by": self._made_by,
            "info": asdict(info),
            "times_s": self._times_s,
            "results": Snapshots(RESULTS).taken(self._results),
            "state": Snapshots(STATE, session.fixed).taken(session.state),
        }
        self._journal.append(json.dumps(record, separators=(",", ":")).encode())

    def _next(self, records: Iterator[bytes], session: Session) -> _Record | None:
        """Read the next record, restore the session, and add the record to this attempt's own.

        None where there is no record, or none that can be used.
        """
        content = next(records, None)
        if content is None:
            return None
        try:
            values = json.loads(content)
            if values["made_by"] != self._made_by:
                logger.info("checkpoints are not used, since they were made by another version")
                return None
            results = Snapshots(RESULTS).restored(values["results"])
            record = _Record(MediaInfo(**values["info"]), list(map(float, values["times_s"])), results)
            session.restore(Snapshots(STATE, session.fixed).restored(values["state"]))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            logger.warning("a checkpoint cannot be used", error=type(error).__name__)
            return None
        self._journal.append(content, lasting=False)
        return record
