"""The story of a request: bytes -> frame -> faces -> crops -> affect, for one picture or for a video's frames.

Decoding, detection and alignment run in a small thread pool, forward passes in the batcher's one thread; the event loop
only awaits. A video is read in chunks, each located while the chunk before it is in the network, and let go after it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TypeVar

import torch

from model_core.affect import Affect
from model_core.faces import Crop
from model_core.predictor import Predictor
from model_core.tracking import FaceTracker, IouTracker
from service.analysis import FaceAnalysis, FaceOptions, FrameAnalysis, Sample, VideoAnalysis, VideoOptions
from service.batch_contract import BatcherClosed, BatchTooLarge, QueueFull, WorkerStalled
from service.batching import Batcher
from service.errors import Draining, Limit, NotReady, Overloaded
from service.lanes import Lane
from service.locating import LocatedFaces, LocatedFrame, Locator
from service.telemetry import StageClock, Telemetry
from service.workers import WorkerPool

R = TypeVar("R")

FRAME_ROUTE, VIDEO_ROUTE = "/analyze/frame", "/analyze/video"


@dataclass(frozen=True)
class Estimate:
    """One face's affect, with the seconds that its forward pass took."""

    affect: Affect
    predict_s: float


def estimator(predictor: Predictor, succeeded: Callable[[], None]) -> Callable[[Sequence[Crop]], list[Estimate]]:
    """The batcher's function: a timed forward pass, which tells `succeeded` that it was one."""

    def run(crops: Sequence[Crop]) -> list[Estimate]:
        started = time.perf_counter()
        try:
            affects = predictor.predict(crops)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise BatchTooLarge(f"no memory for {len(crops)} faces at once") from error
        elapsed = time.perf_counter() - started
        succeeded()
        return [Estimate(affect, elapsed) for affect in affects]

    return run


class Pipeline:
    """Analyses frames and videos with one locator and one batched predictor."""

    def __init__(
        self,
        locator: Locator,
        batcher: Batcher[Crop, Estimate],
        pool: WorkerPool,
        telemetry: Telemetry,
        queue_limit: Limit,
    ) -> None:
        self._locator = locator
        self._batcher = batcher
        self._pool = pool
        self._telemetry = telemetry
        self._queue_limit = queue_limit

    async def analyze_frame(self, file: IO[bytes], options: FaceOptions) -> FrameAnalysis:
        """Analyse one encoded picture. Raises the ServiceErrors of decoding and of the queue."""
        clock = StageClock(self._telemetry)
        self._admit(Lane.INTERACTIVE)
        picture = await self._pool.run(lambda: self._locator.picture(file, options, clock), Lane.INTERACTIVE)
        affects = await self._estimate(picture.located.crops, clock, Lane.INTERACTIVE)
        self._telemetry.frame(FRAME_ROUTE, affects)
        return FrameAnalysis(picture.width, picture.height, _join(picture.located, affects), clock.timings())

    async def analyze_video(self, path: Path, options: VideoOptions) -> VideoAnalysis:
        """Analyse a video file. Raises the ServiceErrors of decoding and of the queue."""
        clock = StageClock(self._telemetry)
        tracker: FaceTracker = IouTracker()
        tracks: dict[int, list[Sample]] = {}
        count = 0
        self._admit(Lane.BULK)
        reader = await self._pool.run(lambda: self._locator.open(path, options, clock), Lane.BULK)
        pending = self._pool.run(reader.next_chunk, Lane.BULK)
        try:
            while chunk := await pending:
                pending = self._pool.run(reader.next_chunk, Lane.BULK)
                estimates = await self._estimate_chunk(chunk, clock)
                for frame, affects in zip(chunk, estimates, strict=True):
                    self._telemetry.frame(VIDEO_ROUTE, affects)
                    _extend(tracks, tracker, frame, affects, clock)
                    count += 1
        finally:
            reader.stop()
            pending.cancel()
            await self._pool.run(reader.close, Lane.INTERACTIVE)
        samples = {track_id: tuple(track) for track_id, track in tracks.items()}
        return VideoAnalysis(reader.video.info, count, reader.video.truncated, samples, clock.timings())

    async def render(self, function: Callable[[], R]) -> R:
        """Run a rendering in the pool: a long video's takes too much time for the event loop."""
        clock = StageClock(self._telemetry)
        with clock.stage("render"):
            return await self._pool.run(function, Lane.BULK)

    def _admit(self, lane: Lane) -> None:
        """Turn a request away where it would wait too long for its turn in the pool and then for the network."""
        wait_s = self._pool.expected_wait_s(lane) + self._batcher.expected_wait_s(lane)
        if (excess_s := wait_s - self._queue_limit["value"]) > 0:
            raise self._overloaded(excess_s)

    def _overloaded(self, excess_s: float) -> Overloaded:
        detail = f"the answer would wait longer than {self._queue_limit['value']:g} s for its turn"
        return Overloaded(detail, retry_after_s=excess_s, limit=self._queue_limit)

    async def _estimate_chunk(self, chunk: Sequence[LocatedFrame], clock: StageClock) -> list[list[Affect]]:
        crops = list(chain.from_iterable(frame.located.crops for frame in chunk))
        affects = iter(await self._estimate(crops, clock, Lane.BULK))
        return [list(islice(affects, len(frame.located.crops))) for frame in chunk]

    async def _estimate(self, crops: Sequence[Crop], clock: StageClock, lane: Lane) -> list[Affect]:
        if not crops:
            return []
        started = time.perf_counter()
        # Once let in, a video is not turned away half-way.
        estimates = await self._batched(crops, lane, admitted=lane is Lane.BULK)
        predict_s = max(estimate.predict_s for estimate in estimates)
        clock.add("predict", predict_s)
        queue_s = max(0.0, time.perf_counter() - started - predict_s)
        clock.add("queue", queue_s)
        self._telemetry.stage_seconds.labels("queue").observe(queue_s)
        return [estimate.affect for estimate in estimates]

    async def _batched(self, crops: Sequence[Crop], lane: Lane, *, admitted: bool) -> list[Estimate]:
        """The batcher's results, and its refusals in the service's terms."""
        try:
            return await self._batcher.submit_many(crops, lane=lane, admitted=admitted)
        except QueueFull as error:
            raise self._overloaded(error.retry_after_s) from None
        except BatcherClosed:
            raise Draining("the service is shutting down") from None
        except WorkerStalled:
            raise NotReady("the network does not answer") from None
        except BatchTooLarge:
            raise NotReady("the device has no memory for a forward pass") from None


def _join(located: LocatedFaces, affects: Sequence[Affect]) -> tuple[FaceAnalysis, ...]:
    rows = zip(located.faces, affects, located.qualities, strict=True)
    return tuple(FaceAnalysis(face, affect, quality) for face, affect, quality in rows)


def _extend(
    tracks: dict[int, list[Sample]],
    tracker: FaceTracker,
    frame: LocatedFrame,
    affects: Sequence[Affect],
    clock: StageClock,
) -> None:
    with clock.stage("track"):
        tracked = tracker.update(list(frame.located.faces), frame.time_s)
    for face, analysis in zip(tracked, _join(frame.located, affects), strict=True):
        tracks.setdefault(face.track_id, []).append(Sample(frame.time_s, frame.index, analysis))
