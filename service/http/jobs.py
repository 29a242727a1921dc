"""Videos as jobs: an upload that is accepted now, and analysed later as its request asked."""

import asyncio
from asyncio import to_thread
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import IO

from fastapi import Request
from fastapi.responses import JSONResponse

from model_core.bundles.bundle import code_version
from service.analysis.checkpoints import CHECKPOINT_S, Checkpoints
from service.errors import DeadlineExceeded, Limit
from service.http.dependencies import Context, Jobs, Model
from service.http.negotiation import idempotency_key, time_limits
from service.http.queries import VideoQuery
from service.http.sinks import ANNOTATED_MEDIA_TYPES, video_sink
from service.http.uploads import Upload, receive, video_upload
from service.jobs.job import Job
from service.jobs.journal import JobJournal
from service.jobs.store import JobStore, Order
from service.jobs.worker import Report
from service.media.videos import MediaInfo, Window
from service.output.annotation.video import Studio, VideoAnnotator
from service.output.schemas import JobStatus
from service.output.sink import Ending, made_in_threads
from service.scheduling.lanes import Lane
from service.telemetry import StageClock, Telemetry

ROUTE = "/jobs"
"""Label under which the frames of jobs are counted."""


async def accept_video(
    request: Request, query: VideoQuery, media_type: str, context: Context, model: Model, jobs: Jobs
) -> JSONResponse:
    """Make a job of an upload, and answer once it is on disk.

    The request's options are checked now, its video when the job runs. Raises InvalidParameter, the errors of uploads,
    IdempotencyConflict, Overloaded, StorageFull, OutOfResources and DeadlineExceeded.
    """
    request_id = request.state.request_id
    query.options()
    window = query.window(model.pipeline.ensemble(query.temporal))
    if media_type in ANNOTATED_MEDIA_TYPES:
        query.annotation(media_type)
    else:
        video_sink(media_type, query, window, model, request_id)
    order = Order(
        caller=getattr(request.state, "caller", ""),
        request_id=request_id,
        media_type=media_type,
        options=query.model_dump_json(exclude_defaults=True),
        idempotency_key=idempotency_key(request),
    )
    most_bytes = context.settings.limit("job_max_upload_bytes")
    upload = video_upload(context.directory, most_bytes, context.decoders, context.limits, window)
    limit = time_limits(request, "job_timeout_s", context.settings).answer
    job = await _stored(request, upload, order, jobs.store, limit)
    jobs.worker.wake()
    headers = {"Location": f"/jobs/{job.id}", "Preference-Applied": "respond-async"}
    return JSONResponse(described(job).model_dump(mode="json", exclude_none=True), 202, headers)


async def _stored(request: Request, upload: Upload, order: Order, store: JobStore, limit: Limit) -> Job:
    """Receive an upload within a time limit, and have it and its job on disk."""
    try:
        async with asyncio.timeout(limit["value"]) as scope:
            announced = request.headers.get("content-length", "")
            upload_bytes = int(announced) if announced.isdigit() else 0
            await to_thread(store.require_room, order.caller, order.idempotency_key, upload_bytes)
            with store.receiving() as (job_id, file):
                await receive(request, {"file": file}, upload)
                return await to_thread(store.accept, job_id, file, order)
    except TimeoutError:
        if not scope.expired():
            raise  # somebody else's
        raise DeadlineExceeded(f"the upload was not complete within {limit['value']:g} s", limit=limit) from None


def described(job: Job) -> JobStatus:
    """Return a job as its clients see it."""
    times = {
        "created_at": job.created_s,
        "started_at": job.started_s,
        "finished_at": job.finished_s,
        "expires_at": job.expires_s,
    }
    return JobStatus.model_validate(
        {name: None if time_s is None else datetime.fromtimestamp(time_s, UTC) for name, time_s in times.items()}
        | {"id": job.id, "state": job.state, "progress": job.progress, "media_type": job.media_type}
        | {"truncated": job.truncated, "problem": job.document}
    )


class VideoJobs:
    """Analyses the videos of jobs with the pipeline and the sinks of the route; see Analysis."""

    def __init__(self, model: Model, studio: Studio, telemetry: Telemetry, checkpoint_s: float = CHECKPOINT_S) -> None:
        """`checkpoint_s`: seconds of work between two checkpoints."""
        self._model = model
        self._checkpoint_s = checkpoint_s
        self._studio = studio
        self._telemetry = telemetry

    async def pieces(
        self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report
    ) -> AsyncGenerator[bytes, None]:
        """See Analysis."""
        query = VideoQuery.model_validate_json(job.options)
        window = query.window(self._model.pipeline.ensemble(query.temporal))
        info = self._model.info if query.temporal == "auto" else self._model.framewise
        checkpoints = Checkpoints(journal, f"{code_version()} {info.model_dump_json()}", self._checkpoint_s)
        made = self._annotated if job.media_type in ANNOTATED_MEDIA_TYPES else self._told
        async with aclosing(made(job, query, window, upload, checkpoints, report)) as pieces:
            async for piece in pieces:
                yield piece

    async def _annotated(
        self,
        job: Job,
        query: VideoQuery,
        window: Window,
        upload: IO[bytes],
        checkpoints: Checkpoints,
        report: Report,
    ) -> AsyncGenerator[bytes, None]:
        clock = StageClock(self._telemetry, ROUTE)
        with self._model.pipeline.admitted(Lane.BACKGROUND) as ticket:
            annotator = VideoAnnotator(self._studio, query.annotation(job.media_type), window, ticket, clock)
            async with aclosing(annotator.pieces(upload, query.options(), checkpoints, report.progress)) as pieces:
                async for piece in pieces:
                    yield piece
        report.truncated = annotator.truncated

    async def _told(
        self,
        job: Job,
        query: VideoQuery,
        window: Window,
        upload: IO[bytes],
        checkpoints: Checkpoints,
        report: Report,
    ) -> AsyncGenerator[bytes, None]:
        pipeline = self._model.pipeline
        sink = video_sink(job.media_type, query, window, self._model, job.request_id)
        source = self._studio.decoders.video(upload, self._studio.limits, window)
        clock = StageClock(self._telemetry, ROUTE)
        begun = False
        with pipeline.admitted(Lane.BACKGROUND) as ticket:
            stream = pipeline.resumed(source, query.options(), ticket, clock, checkpoints)
            async with aclosing(stream) as results:
                async for result in results:
                    with clock.stage("render"):
                        piece = sink.add(result) if begun else sink.begin(source.info) + sink.add(result)
                    begun = True
                    report.progress(_share(result.time_s, source.info, window))
                    yield piece
        if not begun:
            yield sink.begin(source.info)
        report.truncated = source.truncated
        async for piece in made_in_threads(sink.end(Ending(source.truncated, clock.timings()))):
            yield piece


def _share(time_s: float, info: MediaInfo, window: Window) -> float:
    """Return the share of a window that lies before a time; 0 where its length is not known."""
    length_s = window.length_s(info)
    return (time_s - window.begin_s(info)) / length_s if length_s else 0.0
