"""The story of a request: a source's frames -> faces -> crops -> features -> results. Read it first.

    source  ->  chunks of frames  ->  Session.locate  ->  Estimator  ->  Session.feed  ->  FrameResult  ->  a sink
    picture     a pool thread         the same thread     batched with    tracks, memory,   frozen          output/
    video                             detect, align       other requests  smoothing

A picture is a stream of one frame. Decoding, detection and alignment run in a small thread pool, forward passes in one
thread an encoder; the event loop only awaits. While a chunk is in the network the next one is located, and no more: a
fixed number of frames is in flight, whatever the length of the video.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TypeVar

from model_core.faces.geometry import Crop, Face, Frame
from model_core.inference.encoder import Features
from model_core.inference.predictor import BundleEnsemble, Predictor
from service.analysis.baselines import NOTHING_TO_COMPARE
from service.analysis.checkpoints import Checkpoints
from service.analysis.estimating import Estimate, Estimator
from service.analysis.locating import TURN_S, Chunk, FrameReader, L, LocatedFrame, Locator
from service.analysis.results import AnalysisOptions, FramePlace, FrameResult, KnownBaseline, Temporal, WholeTrack
from service.analysis.session import MOST_FACES, Session
from service.errors import (
    Draining,
    InvalidBaseline,
    Limit,
    NotReady,
    Overloaded,
    TooManyPixels,
    UndecodableMedia,
    UnsupportedMediaType,
)
from service.media.sources import ResumableSource, Source
from service.media.videos import TimedFrame
from service.scheduling.admission import Admission, Blocked, Ticket, WouldWait
from service.scheduling.batcher import BatcherClosed
from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool
from service.scheduling.replica import BatchTooLarge
from service.scheduling.watchdog import WorkerStalled
from service.telemetry import StageClock

R = TypeVar("R")


class Pipeline:
    """Analyses sources with one locator, and a predictor whose encoders are batched.

    >>> source = VideoSource(path, limits, Window(fps=5))
    >>> with pipeline.admitted(Lane.BULK) as ticket:
    ...     async for result in pipeline.stream(source, AnalysisOptions(), ticket, clock):
    ...         print(result.time_s, [face.affect.valence for face in result.faces])
    """

    def __init__(
        self,
        locator: Locator,
        estimator: Estimator,
        predictor: Predictor,
        pool: WorkerPool,
        admission: Admission,
        wait_limits: Mapping[Lane, Limit],
        open_videos: int,
    ) -> None:
        """`open_videos`: most videos that are read at the same time; further ones wait, without a thread."""
        self._locator = locator
        self._estimator = estimator
        self._predictor = predictor
        self._pool = pool
        self._admission = admission
        self._wait_limits = wait_limits
        self._open_videos = asyncio.Semaphore(open_videos)

    @contextmanager
    def admitted(self, lane: Lane, asked: Limit | None = None) -> Iterator[Ticket]:
        """Be admitted for the length of the block: from before the upload is read until the answer is complete.

        asked: the time in seconds that the client itself has, which is then its longest wait instead of the lane's.
        Raises Overloaded for a request that would wait too long, NotReady where nothing gets on. A picture with many
        faces may be refused within the block, when they have been counted.
        """
        try:
            with self._admission.admitted(lane, asked and asked["value"]) as ticket:
                yield ticket
        except Blocked as reason:
            raise NotReady(str(reason)) from None
        except WouldWait as wait:
            limit = asked or self._wait_limits[lane]
            detail = f"the queue is full for a request that may wait for {limit['value']:g} s; come back as told"
            raise Overloaded(detail, retry_after_s=wait.retry_s, limit=limit) from None

    def ensemble(self, temporal: Temporal) -> BundleEnsemble:
        """Return the bundles that answer a request with this option."""
        return self._predictor.everything if temporal == "auto" else self._predictor.framewise

    async def stream(
        self, source: Source, options: AnalysisOptions, ticket: Ticket, clock: StageClock
    ) -> AsyncGenerator[FrameResult, None]:
        """Analyse a source; gives each frame's result as soon as it is known, in the order of the frames.

        Closing the generator ends the work and releases the source. Raises the ServiceErrors of decoding and queues.
        """
        opening = self._open_videos if ticket.lane is Lane.BULK else nullcontext()
        session = self.session(options, clock)
        async with opening, aclosing(self._analysed(source, session, ticket, clock, None)) as results:
            async for result in results:
                yield result

    async def resumed(
        self,
        source: ResumableSource,
        options: AnalysisOptions,
        ticket: Ticket,
        clock: StageClock,
        checkpoints: Checkpoints,
    ) -> AsyncGenerator[FrameResult, None]:
        """Analyse a source as `stream` does, from where its checkpoints end; their results come first.

        Raises OSError beside, where a checkpoint cannot be read or written.
        """
        session = self.session(options, clock)
        async with aclosing(checkpoints.past(session, source)) as results:
            async for result in results:
                yield result
        async with aclosing(self._analysed(source, session, ticket, clock, checkpoints)) as results:
            async for result in results:
                yield result

    def session(self, options: AnalysisOptions, clock: StageClock) -> Session:
        """Return what is to be remembered of a source whose frames come one by one, for `next_result`."""
        return Session(self._locator, self.ensemble(options.temporal), options, clock)

    async def next_result(
        self, session: Session, picture: Source, place: FramePlace, ticket: Ticket, clock: StageClock
    ) -> FrameResult:
        """Analyse a picture as the next frame of a session without offline smoothing; it is one turn of its own.

        One call at a time: after a call that was cancelled, or ended with a ServiceError of the status 500 or more, a
        thread may still be at work on the session, which must not be used again. Raises the ServiceErrors of decoding
        and queues.
        """

        def locate(timed: TimedFrame) -> LocatedFrame:
            return session.locate(replace(timed, time_s=place.time_s, index=place.frame))

        reader = FrameReader(picture, locate, clock)
        try:
            with ticket.turn():
                chunk = await _awaited(self._pool.run(reader.next_chunk, ticket.lane))
                [result] = await self._results(session, chunk, ticket.lane, clock)
        finally:
            reader.cancel()
        clock.count_frame([(face.affect, face.quality) for face in result.faces])
        return result

    async def visited(
        self, source: Source, look: Callable[[TimedFrame], L], ticket: Ticket, clock: StageClock
    ) -> AsyncGenerator[L, None]:
        """Call a function with each frame of a source, in the pool's threads; gives what it returns, frame by frame.

        The function may write on the frame. Closing the generator ends the work and releases the source. Raises the
        ServiceErrors of decoding, and what the function raises.
        """
        reader = FrameReader(source, look, clock, TURN_S)
        is_last = False
        try:
            while not is_last:
                with ticket.turn():
                    chunk = await _awaited(self._pool.run(reader.next_chunk, ticket.lane))
                is_last = chunk.is_last
                for looked in chunk.frames:
                    yield looked
        finally:
            reader.cancel()

    def search(self, frame: Frame, min_confidence: float, *, thorough: bool) -> list[Face]:
        """Return all faces of a frame, uint8 [H, W, 3] RGB, whatever their number; blocks, for use in `visited`."""
        return self._locator.search(frame, min_confidence, thorough=thorough)

    async def at_rest(
        self, source: Source, options: AnalysisOptions, ticket: Ticket, clock: StageClock
    ) -> KnownBaseline:
        """Return the baseline that a picture of one person at rest gives; it is one more turn of its request.

        Raises InvalidBaseline unless it shows exactly one face, and the ServiceErrors of decoding and queues.
        """
        # With this baseline a face's result carries the levels by which it is compared.
        everyone = replace(options, max_faces=MOST_FACES, baseline=WholeTrack())
        ensemble = self.ensemble(options.temporal)
        session = Session(self._locator, ensemble, everyone, clock)
        reader = FrameReader(source, session.locate, clock)
        try:
            with ticket.turn(), _naming_the_baseline():
                if not ensemble.comparison.names:
                    raise InvalidBaseline(NOTHING_TO_COMPARE)
                chunk = await _awaited(self._pool.run(reader.next_chunk, ticket.lane))
                count = sum(len(frame.faces) for frame in chunk.frames)
                if count != 1:
                    remedy = "cut it to the person of the picture" if count else "send a larger, frontal picture"
                    raise InvalidBaseline(f"it must show exactly one face; found {count or 'none'}: {remedy}")
                [result] = await self._results(session, chunk, ticket.lane, clock)
        finally:
            reader.cancel()
        [face] = result.faces
        assert face.levels is not None
        return KnownBaseline(face, face.levels)

    async def _analysed(
        self, source: Source, session: Session, ticket: Ticket, clock: StageClock, checkpoints: Checkpoints | None
    ) -> AsyncGenerator[FrameResult, None]:
        # A picture is one turn; a video comes back to the queue while its decoder skips.
        turn_s = math.inf if ticket.lane is Lane.INTERACTIVE else TURN_S
        reader = FrameReader(source, session.locate, clock, turn_s)
        pending: asyncio.Future[Chunk[LocatedFrame]] | None = None
        is_last = False
        try:
            while not is_last:
                with ticket.turn():
                    # Only the first chunk is asked for here, within the turn that measures it.
                    chunk = await _awaited(pending or self._pool.run(reader.next_chunk, ticket.lane))
                    is_last = chunk.is_last
                    if ticket.lane is Lane.INTERACTIVE:
                        ticket.costs(sum(len(frame.faces) for frame in chunk.frames))
                    # At a checkpoint no frame is in flight.
                    resting = is_last or (checkpoints is not None and checkpoints.due())
                    pending = None if resting else self._pool.run(reader.next_chunk, ticket.lane)
                    results = await self._results(session, chunk, ticket.lane, clock)
                if is_last and session.delayed:
                    results += await self._pooled(session.finish, ticket.lane)
                for result in results:
                    clock.count_frame([(face.affect, face.quality) for face in result.faces])
                    yield result
                    await asyncio.sleep(0)  # many results may be known at once, and others wait for the event loop
                if checkpoints is not None and not is_last:
                    checkpoints.note(chunk, results)
                    if resting:
                        await checkpoints.keep(session, source)
        finally:
            if pending is not None:
                pending.cancel()
            reader.cancel()

    async def _results(
        self, session: Session, chunk: Chunk[LocatedFrame], lane: Lane, clock: StageClock
    ) -> list[FrameResult]:
        """The frames whose results this chunk completes."""
        if not chunk.frames:
            return []
        crops = [located.crops for frame in chunk.frames for located in frame.faces]
        estimates = await self._estimate(crops, clock, lane) if crops else []
        feed = partial(_feed, session, chunk, [estimate.features for estimate in estimates])
        return await self._pooled(feed, lane) if session.blocking else feed()

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


def _feed(session: Session, chunk: Chunk[LocatedFrame], features: Sequence[Features]) -> list[FrameResult]:
    remaining = iter(features)
    return [
        result for frame in chunk.frames for result in session.feed(frame, list(islice(remaining, len(frame.faces))))
    ]


@contextmanager
def _naming_the_baseline() -> Iterator[None]:
    """Tell which of a request's two pictures an error is about."""
    try:
        yield
    except UnsupportedMediaType as error:
        raise UnsupportedMediaType(f"baseline: it must be a picture. {error.detail}", limit=error.limit) from None
    except (InvalidBaseline, TooManyPixels, UndecodableMedia) as error:
        raise type(error)(f"baseline: {error.detail}", limit=error.limit) from None


async def _awaited(call: "asyncio.Future[R]") -> R:
    """A pool's result, and its stall in the service's terms."""
    try:
        return await call
    except WorkerStalled:
        raise NotReady("face detection does not answer") from None
