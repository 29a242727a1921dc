"""POST /analyze/frame and POST /analyze/video."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.analysis import FaceOptions, VideoOptions
from service.errors import DeadlineExceeded, InvalidParameter, Limit, NotAcceptable
from service.pipeline import FRAME_ROUTE, VIDEO_ROUTE
from service.rendering import render_frame, render_video
from service.routes.dependencies import ContextDep, ModelDep, RequestId, problems, upload_body
from service.routes.uploads import receive
from service.schemas import FrameQuery, FrameResponse, VideoQuery, VideoResponse
from service.settings import Settings, variable

router = APIRouter()

IN_MEMORY_BYTES = 2 * 1024 * 1024
"""Pictures up to this size never touch the disk."""


@router.post(
    FRAME_ROUTE,
    response_model_exclude_none=True,
    responses=problems(400, 406, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=upload_body("image/*"),
)
async def analyze_frame(
    request: Request, query: Annotated[FrameQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> FrameResponse:
    """Faces of a picture (JPEG, PNG, WebP, BMP) with valence-arousal, expression and action units."""
    settings = context.settings
    options = FaceOptions(query.max_faces, query.min_confidence)
    with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(context.directory)) as file:
        async with _negotiated(request, "deadline_s", settings):
            await receive(request, file, raw_types=("image/",), max_bytes=settings.max_upload_bytes)
            analysis = await model.pipeline.analyze_frame(file, options)
    return render_frame(analysis, model.info, request_id)


@router.post(
    VIDEO_ROUTE,
    response_model_exclude_none=True,
    responses=problems(400, 406, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=upload_body("video/*"),
)
async def analyze_video(
    request: Request, query: Annotated[VideoQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> VideoResponse:
    """Tracks of the faces in a video (mp4, mov, webm, avi, gif), sampled at `fps` frames a second."""
    settings = context.settings
    options = VideoOptions(FaceOptions(query.max_faces, query.min_confidence), query.fps, query.start_s, query.end_s)
    with NamedTemporaryFile(dir=context.directory) as file:
        async with _negotiated(request, "video_deadline_s", settings):
            await receive(request, file, raw_types=("video/", "image/gif"), max_bytes=settings.max_upload_bytes)
            analysis = await model.pipeline.analyze_video(Path(file.name), options)
    return render_video(analysis, model.info, request_id)


@asynccontextmanager
async def _negotiated(request: Request, deadline: str, settings: Settings) -> AsyncIterator[None]:
    """Refuse what is not built, before anything is read; then bound the time by the setting `deadline`."""
    accepted = [part.split(";")[0].strip() for part in request.headers.get("accept", "*/*").lower().split(",")]
    if not {"*/*", "application/*", "application/json"} & set(accepted):
        raise NotAcceptable("answers are application/json; other types are not available")
    if "respond-async" in request.headers.get("prefer", "").lower():
        raise InvalidParameter("Prefer: respond-async is not available")
    limit = _time_limit(request, Limit(name=variable(deadline), value=getattr(settings, deadline)))
    try:
        async with asyncio.timeout(limit["value"]):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {limit['value']:g} s", limit=limit) from None


def _time_limit(request: Request, configured: Limit) -> Limit:
    """The client's X-Request-Timeout-Ms where it is shorter than the configured limit, in seconds."""
    asked = request.headers.get("x-request-timeout-ms")
    if asked is None:
        return configured
    if not asked.isdecimal() or not int(asked[:10]) > 0:
        raise InvalidParameter("X-Request-Timeout-Ms: must be a positive whole number of milliseconds")
    asked_s = int(asked[:10]) / 1000
    return Limit(name="X-Request-Timeout-Ms", value=asked_s) if asked_s < configured["value"] else configured
