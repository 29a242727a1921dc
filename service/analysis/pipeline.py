"""The story of a request: a source's frames -> faces -> crops -> features -> results. Read it first.

    source  ->  chunks of frames  ->  Session.locate  ->  Estimator  ->  Session.feed  ->  FrameResult  ->  a sink
    picture     a pool thread         the same thread     batched with    tracks, memory,   frozen          output/
    video                             detect, align       other requests  smoothing

A picture is a stream of one frame. Decoding, detection and alignment run in a small thread pool, forward passes in one
thread an encoder; the event loop only awaits. While a chunk is in the network the next one is located, and no more: a
fixed number of frames is in flight, whatever the length of the video.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from model_core.faces.geometry import Crop
from model_core.inference.encoder import Features
from model_core.inference.predictor import BundleEnsemble, Predictor
from service.analysis.estimating import Estimate, Estimator
from service.analysis.locating import Chunk, FrameReader, Locator
from service.analysis.results import AnalysisOptions, FrameResult, Temporal
from service.analysis.session import Session
from service.errors import Draining, Limit, NotReady, Overloaded
from service.media.sources import Source
from service.scheduling.batch_contract import BatcherClosed, BatchTooLarge, WorkerStalled
from service.scheduling.lanes import Lane
from service.scheduling.pace import MovingAverage
from service.scheduling.pool import WorkerPool
from service.telemetry import StageClock

R = TypeVar("R")


class Pipeline:
    """Analyses sources with one locator, and a predictor whose encoders are batched.

    async for result in pipeline.stream(VideoSource(path, limits, Window(fps=5)), AnalysisOptions(), clock):
        print(result.time_s, [face.affect.valence for face in result.faces])
    """

    def __init__(
        self,
        locator: Locator,
        estimator: Estimator,
        predictor: Predictor,
        pool: WorkerPool,
        wait_limits: Mapping[Lane, Limit],
    ) -> None:
        self._locator = locator
        self._estimator = estimator
        self._predictor = predictor
        self._pool = pool
        self._wait_limits = wait_limits
        self._picture_faces = MovingAverage()

    def admit(self, lane: Lane) -> None:
        """Raises Overloaded for a request that would wait too long, NotReady where the network hangs.

        Cheap, so worth asking before an upload is read.
        """
        if self._estimator.blocked:
            raise NotReady("the network does not answer")
        limit = self._wait_limits[lane]
        if (excess_s := self._expected_wait_s(lane) - limit["value"]) > 0:
            detail = f"the answer would wait longer than {limit['value']:g} s for its turn"
            raise Overloaded(detail, retry_after_s=excess_s, limit=limit)

    def ensemble(self, temporal: Temporal) -> BundleEnsemble:
        """Return the bundles that answer a request with this option."""
        return self._predictor.everything if temporal == "auto" else self._predictor.framewise

    async def stream(
        self, source: Source, options: AnalysisOptions, clock: StageClock
    ) -> AsyncGenerator[FrameResult, None]:
        """Analyse a source; gives each frame's result as soon as it is known, in the order of the frames.

        Closing the generator ends the work and releases the source. Raises the ServiceErrors of decoding and queues.
        """
        session = Session(self._locator, self.ensemble(options.temporal), options, clock)
        reader = FrameReader(source, session.locate, clock)
        chunks = self._chunks(reader, options.lane)
        try:
            async for chunk in chunks:
                for result in await self._results(session, chunk, options.lane, clock):
                    clock.count_frame([face.affect for face in result.faces])
                    yield result
            # The pool is asked only where something is left: a picture need not wait for a thread again.
            for result in await self._pooled(session.finish, options.lane) if session.delayed else ():
                clock.count_frame([face.affect for face in result.faces])
                yield result
        finally:
            await chunks.aclose()

    async def _chunks(self, reader: FrameReader, lane: Lane) -> AsyncGenerator[Chunk, None]:
        """The source's chunks, each located while the one before it is in use; cancels the reading at the end."""
        pending = self._pool.run(reader.next_chunk, lane)
        try:
            while True:
                chunk = await _awaited(pending)
                if not chunk.is_last:
                    pending = self._pool.run(reader.next_chunk, lane)
                yield chunk
                if chunk.is_last:
                    return
        finally:
            pending.cancel()
            reader.cancel()

    async def _results(self, session: Session, chunk: Chunk, lane: Lane, clock: StageClock) -> list[FrameResult]:
        """The frames whose results this chunk completes."""
        crops = [located.crops for frame in chunk.frames for located in frame.faces]
        if lane is Lane.INTERACTIVE:
            self._picture_faces.note(len(crops))
        estimates = await self._estimate(crops, clock, lane) if crops else []
        feed = partial(_feed, session, chunk, [estimate.features for estimate in estimates])
        # Networks with memory run while frames are fed, which takes too long for the event loop.
        return await self._pooled(feed, lane) if session.temporal else feed()

    def _expected_wait_s(self, lane: Lane) -> float:
        """Pool and networks work side by side: a request waits for the slowest of them, and in the networks for the
        faces that are yet to be found in the pictures before it, too."""
        coming = self._pool.depth(Lane.INTERACTIVE) * self._picture_faces.value
        return max(self._pool.expected_wait_s(lane), self._estimator.expected_wait_s(lane, coming))

    async def _pooled(self, function: Callable[[], R], lane: Lane) -> R:
        return await _awaited(self._pool.run(function, lane))

    async def _estimate(self, crops: Sequence[Sequence[Crop]], clock: StageClock, lane: Lane) -> list[Estimate]:
        started = time.perf_counter()
        estimates = await self._batched(crops, lane)
        predict_s = max(estimate.predict_s for estimate in estimates)
        clock.add("predict", predict_s)
        clock.observe("queue", max(0.0, time.perf_counter() - started - predict_s))
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


def _feed(session: Session, chunk: Chunk, features: Sequence[Features]) -> list[FrameResult]:
    remaining = iter(features)
    return [
        result for frame in chunk.frames for result in session.feed(frame, list(islice(remaining, len(frame.faces))))
    ]


async def _awaited(call: "asyncio.Future[R]") -> R:
    """A pool's result, and its stall in the service's terms."""
    try:
        return await call
    except WorkerStalled:
        raise NotReady("decoding or face detection does not answer") from None
