"""The story of a request: bytes -> frame -> faces -> crops -> affect, for one picture or for a video's frames.

Decoding, detection and alignment run in a small thread pool, forward passes in the batcher's one thread; the event loop
only awaits. A video is read in chunks, each located while the chunk before it is in the network, and let go after it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, TypeVar

from model_core.affect import Affect
from model_core.faces import Crop
from model_core.predictor import Outputs
from model_core.tracking import IouTracker
from service.analysis import FaceAnalysis, FaceOptions, FrameAnalysis, VideoAnalysis, VideoOptions
from service.averages import MovingAverage
from service.batch_contract import BatcherClosed, BatchTooLarge, WorkerStalled
from service.batching import Batcher
from service.errors import Draining, Limit, NotReady, Overloaded
from service.estimating import Estimate
from service.lanes import Lane
from service.locating import LocatedFaces, LocatedFrame, Locator
from service.telemetry import StageClock, Telemetry
from service.tracks import TrackBuilder
from service.workers import WorkerPool

R = TypeVar("R")

FRAME_ROUTE, VIDEO_ROUTE = "/analyze/frame", "/analyze/video"


class Pipeline:
    """Analyses frames and videos with one locator and one batched predictor."""

    def __init__(
        self,
        locator: Locator,
        batcher: Batcher[Crop, Estimate],
        pool: WorkerPool,
        affects: Callable[[Sequence[Outputs]], list[Affect]],
        telemetry: Telemetry,
        wait_limits: Mapping[Lane, Limit],
    ) -> None:
        self._locator = locator
        self._batcher = batcher
        self._pool = pool
        self._affects = affects
        self._telemetry = telemetry
        self._wait_limits = wait_limits
        self._picture_faces = MovingAverage()

    def admit(self, lane: Lane) -> None:
        """Raises Overloaded for a request that would wait too long, NotReady where the network hangs.

        Cheap, so worth asking before an upload is read.
        """
        if self._batcher.stalled:
            raise NotReady("the network does not answer")
        limit = self._wait_limits[lane]
        if (excess_s := self._expected_wait_s(lane) - limit["value"]) > 0:
            detail = f"the answer would wait longer than {limit['value']:g} s for its turn"
            raise Overloaded(detail, retry_after_s=excess_s, limit=limit)

    async def analyze_frame(self, file: IO[bytes], options: FaceOptions) -> FrameAnalysis:
        """Analyse one encoded picture. Raises the ServiceErrors of decoding and of the queue."""
        clock = StageClock(self._telemetry)
        self.admit(Lane.INTERACTIVE)
        picture = await self._pooled(lambda: self._locator.picture(file, options, clock), Lane.INTERACTIVE)
        self._picture_faces.note(len(picture.located.crops))
        estimates = await self._estimate(picture.located.crops, clock, Lane.INTERACTIVE)
        faces = self._count(FRAME_ROUTE, picture.located, estimates)
        return FrameAnalysis(picture.width, picture.height, faces, clock.timings())

    async def analyze_video(self, path: Path, options: VideoOptions) -> VideoAnalysis:
        """Analyse a video file. Raises the ServiceErrors of decoding and of the queue."""
        clock = StageClock(self._telemetry)
        tracks = TrackBuilder(IouTracker(), options.smoothing, self._affects)
        count = 0
        self.admit(Lane.BULK)
        reader = await self._pooled(lambda: self._locator.open(path, options, clock), Lane.BULK)
        pending = self._pool.run(reader.next_chunk, Lane.BULK)
        try:
            while chunk := await _awaited(pending):
                pending = self._pool.run(reader.next_chunk, Lane.BULK)
                await self._extend(tracks, chunk, clock)
                count += len(chunk)
        finally:
            reader.stop()
            pending.cancel()
            with suppress(NotReady):
                await self._pooled(reader.close, Lane.INTERACTIVE)
        samples = await self._pooled(tracks.finish, Lane.BULK)
        return VideoAnalysis(reader.video.info, count, reader.video.truncated, samples, clock.timings())

    async def render(self, function: Callable[[], R]) -> R:
        """Run a rendering in the pool: a long video's takes too much time for the event loop."""
        clock = StageClock(self._telemetry)
        with clock.stage("render"):
            return await self._pooled(function, Lane.BULK)

    def _expected_wait_s(self, lane: Lane) -> float:
        """Pool and network work side by side: a request waits for the slower of the two, and in the network for the
        faces that are yet to be found in the pictures before it, too."""
        coming = self._pool.depth(Lane.INTERACTIVE) * self._picture_faces.value
        return max(self._pool.expected_wait_s(lane), self._batcher.expected_wait_s(lane, coming))

    async def _pooled(self, function: Callable[[], R], lane: Lane) -> R:
        return await _awaited(self._pool.run(function, lane))

    async def _extend(self, tracks: TrackBuilder, chunk: Sequence[LocatedFrame], clock: StageClock) -> None:
        crops = list(chain.from_iterable(frame.located.crops for frame in chunk))
        estimates = iter(await self._estimate(crops, clock, Lane.BULK))
        for frame in chunk:
            here = list(islice(estimates, len(frame.located.crops)))
            faces = self._count(VIDEO_ROUTE, frame.located, here)
            with clock.stage("track"):
                tracks.add(frame.time_s, frame.index, faces, [estimate.outputs for estimate in here])

    async def _estimate(self, crops: Sequence[Crop], clock: StageClock, lane: Lane) -> list[Estimate]:
        if not crops:
            return []
        started = time.perf_counter()
        estimates = await self._batched(crops, lane)
        predict_s = max(estimate.predict_s for estimate in estimates)
        clock.add("predict", predict_s)
        queue_s = max(0.0, time.perf_counter() - started - predict_s)
        clock.add("queue", queue_s)
        self._telemetry.stage_seconds.labels("queue").observe(queue_s)
        return estimates

    async def _batched(self, crops: Sequence[Crop], lane: Lane) -> list[Estimate]:
        """The batcher's results, and its refusals in the service's terms; who was let in is not turned away later."""
        try:
            return await self._batcher.submit_many(crops, lane=lane, admitted=True)
        except BatcherClosed:
            raise Draining("the service is shutting down") from None
        except WorkerStalled:
            raise NotReady("the network does not answer") from None
        except BatchTooLarge:
            raise NotReady("the device has no memory for a forward pass") from None

    def _count(self, route: str, located: LocatedFaces, estimates: Sequence[Estimate]) -> tuple[FaceAnalysis, ...]:
        """A frame's faces with what was estimated of them; the metrics see it, too."""
        self._telemetry.frame(route, [estimate.affect for estimate in estimates])
        rows = zip(located.faces, estimates, located.qualities, strict=True)
        return tuple(FaceAnalysis(face, estimate.affect, quality) for face, estimate, quality in rows)


async def _awaited(call: "asyncio.Future[R]") -> R:
    """A pool's result, and its stall in the service's terms."""
    try:
        return await call
    except WorkerStalled:
        raise NotReady("decoding or face detection does not answer") from None
