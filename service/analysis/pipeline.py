"""The story of a request: bytes -> frame -> faces -> crops -> features -> affect, for a picture or a video's frames.

Decoding, detection and alignment run in a small thread pool, forward passes in one thread an encoder; the event loop
only awaits. A video is read in chunks, each located while the chunk before it is in the network, and let go after it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, TypeVar

from model_core.faces.geometry import Crop
from model_core.faces.tracking import IouTracker
from model_core.inference.predictor import Predictor, Reader
from service.analysis.estimating import Estimate, Estimator
from service.analysis.locating import LocatedFrame, Locator
from service.analysis.results import FaceAnalysis, FaceOptions, FrameAnalysis, VideoAnalysis, VideoOptions
from service.analysis.session import TrackBuilder
from service.errors import Draining, Limit, NotReady, Overloaded
from service.scheduling.admission import Admission, Blocked, Ticket, WouldWait
from service.scheduling.batcher import BatcherClosed
from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool
from service.scheduling.replica import BatchTooLarge
from service.scheduling.watchdog import WorkerStalled
from service.telemetry import StageClock, Telemetry

R = TypeVar("R")

FRAME_ROUTE, VIDEO_ROUTE = "/analyze/frame", "/analyze/video"


class Pipeline:
    """Analyses frames and videos with one locator, and a predictor whose encoders are batched."""

    def __init__(
        self,
        locator: Locator,
        estimator: Estimator,
        predictor: Predictor,
        pool: WorkerPool,
        telemetry: Telemetry,
        admission: Admission,
        wait_limits: Mapping[Lane, Limit],
    ) -> None:
        self._locator = locator
        self._estimator = estimator
        self._predictor = predictor
        self._pool = pool
        self._telemetry = telemetry
        self._admission = admission
        self._wait_limits = wait_limits

    @contextmanager
    def admitted(self, lane: Lane) -> Iterator[Ticket]:
        """Be admitted for the length of the block: from before the upload is read until the answer is complete.

        Raises Overloaded for a request that would wait too long, NotReady where nothing gets on.
        """
        try:
            with self._admission.admitted(lane) as ticket:
                yield ticket
        except Blocked as reason:
            raise NotReady(str(reason)) from None
        except WouldWait as wait:
            limit = self._wait_limits[lane]
            detail = f"the answer would wait longer than {limit['value']:g} s for its turn"
            raise Overloaded(detail, retry_after_s=wait.expected_s - wait.limit_s, limit=limit) from None

    async def analyze_frame(self, file: IO[bytes], options: FaceOptions, ticket: Ticket) -> FrameAnalysis:
        """Analyse one encoded picture. Raises the ServiceErrors of decoding and of the queue."""
        with ticket.turn():
            return await self._analyze_frame(file, options)

    async def _analyze_frame(self, file: IO[bytes], options: FaceOptions) -> FrameAnalysis:
        clock = StageClock(self._telemetry)
        picture = await self._pooled(lambda: self._locator.picture(file, options, clock), Lane.INTERACTIVE)
        estimates = await self._estimate(picture.located.crops, clock, Lane.INTERACTIVE)
        reader, features = self._predictor.everything, [estimate.features for estimate in estimates]
        affects = await self._read(reader, lambda: reader.affects(reader.first(features)), Lane.INTERACTIVE)
        self._telemetry.frame(FRAME_ROUTE, affects)
        rows = zip(picture.located.faces, affects, picture.located.qualities, strict=True)
        faces = tuple(FaceAnalysis(*row) for row in rows)
        return FrameAnalysis(picture.width, picture.height, faces, clock.timings())

    async def analyze_video(self, path: Path, options: VideoOptions, ticket: Ticket) -> VideoAnalysis:
        """Analyse a video file. Raises the ServiceErrors of decoding and of the queue."""
        clock = StageClock(self._telemetry)
        reader = self._predictor.everything if options.temporal == "auto" else self._predictor.framewise
        tracks = TrackBuilder(IouTracker(), reader, options.smoothing, clock)
        count = 0
        frames = await self._pooled(lambda: self._locator.open(path, options, clock), Lane.BULK)
        pending = self._pool.run(frames.next_chunk, Lane.BULK)
        try:
            while True:
                with ticket.turn():
                    if not (chunk := await _awaited(pending)):
                        break
                    pending = self._pool.run(frames.next_chunk, Lane.BULK)
                    estimates = await self._estimate(_crops(chunk), clock, Lane.BULK)
                    await self._read(reader, partial(self._extend, tracks, chunk, estimates), Lane.BULK)
                    count += len(chunk)
        finally:
            frames.stop()
            pending.cancel()
            with suppress(NotReady):
                await self._pooled(frames.close, Lane.INTERACTIVE)
        samples = await self._pooled(tracks.finish, Lane.BULK)
        return VideoAnalysis(frames.video.info, count, frames.video.truncated, samples, clock.timings())

    async def render(self, function: Callable[[], R]) -> R:
        """Run a rendering in the pool: a long video's takes too much time for the event loop."""
        clock = StageClock(self._telemetry)
        with clock.stage("render"):
            return await self._pooled(function, Lane.BULK)

    async def _pooled(self, function: Callable[[], R], lane: Lane) -> R:
        return await _awaited(self._pool.run(function, lane))

    async def _read(self, reader: Reader, function: Callable[[], R], lane: Lane) -> R:
        """Call what reads features: where a temporal network is run for it, in the pool."""
        return await self._pooled(function, lane) if reader.temporal else function()

    def _extend(self, tracks: TrackBuilder, chunk: Sequence[LocatedFrame], estimates: Sequence[Estimate]) -> None:
        rest = iter(estimates)
        for frame in chunk:
            here = islice(rest, len(frame.located.faces))
            self._telemetry.frame(VIDEO_ROUTE, tracks.add(frame, [estimate.features for estimate in here]))

    async def _estimate(self, crops: Sequence[Sequence[Crop]], clock: StageClock, lane: Lane) -> list[Estimate]:
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

    async def _batched(self, crops: Sequence[Sequence[Crop]], lane: Lane) -> list[Estimate]:
        """The batchers' results, and their refusals in the service's terms; who was let in is not turned away later."""
        try:
            return await self._estimator.estimate(crops, lane)
        except BatcherClosed:
            raise Draining("the service is shutting down") from None
        except WorkerStalled:
            raise NotReady("the network does not answer") from None
        except BatchTooLarge:
            raise NotReady("the device has no memory for a forward pass") from None


def _crops(chunk: Sequence[LocatedFrame]) -> list[tuple[Crop, ...]]:
    """The faces of some frames in a row, each with its crops."""
    return list(chain.from_iterable(frame.located.crops for frame in chunk))


async def _awaited(call: "asyncio.Future[R]") -> R:
    """A pool's result, and its stall in the service's terms."""
    try:
        return await call
    except WorkerStalled:
        raise NotReady("decoding or face detection does not answer") from None
