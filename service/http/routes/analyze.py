"""POST /analyze/frame and POST /analyze/video."""

from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.analysis.pipeline import FRAME_ROUTE, VIDEO_ROUTE
from service.analysis.results import FaceOptions, VideoOptions
from service.http.dependencies import ContextDep, ModelDep, RequestId
from service.http.negotiation import negotiated, while_client_waits
from service.http.openapi import TIMED, problems, upload
from service.http.queries import FrameQuery, VideoQuery
from service.http.uploads import receive
from service.output.document import render_frame, server_timing, video_json
from service.output.schemas import FrameResponse, VideoResponse
from service.scheduling.lanes import Lane

router = APIRouter()

IN_MEMORY_BYTES = 2 * 1024 * 1024
"""Pictures up to this size never touch the disk."""


@router.post(
    FRAME_ROUTE,
    response_model_exclude_none=True,
    responses=TIMED | problems(400, 406, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=upload("image/jpeg", "image/png", "image/webp", "image/bmp"),
)
async def analyze_frame(
    request: Request,
    response: Response,
    query: Annotated[FrameQuery, Query()],
    context: ContextDep,
    model: ModelDep,
    request_id: RequestId,
) -> FrameResponse:
    """Faces of a picture (JPEG, PNG, WebP, BMP) with valence-arousal, expression and action units."""
    settings = context.settings
    options = FaceOptions(query.max_faces, query.min_confidence)
    with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(context.directory)) as file:
        async with negotiated(request, "deadline_s", settings):
            with model.pipeline.admitted(Lane.INTERACTIVE) as ticket:  # before the upload is read
                await receive(request, file, raw_types=("image/",), max_bytes=settings.max_upload_bytes)
                async with while_client_waits(request):
                    analysis = await model.pipeline.analyze_frame(file, options, ticket)
    response.headers["Server-Timing"] = server_timing(analysis.timings_s)
    return render_frame(analysis, model.info, request_id)


@router.post(
    VIDEO_ROUTE,
    response_model=VideoResponse,
    responses=TIMED | problems(400, 406, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=upload("video/mp4", "video/quicktime", "video/webm", "video/x-msvideo", "image/gif"),
)
async def analyze_video(
    request: Request, query: Annotated[VideoQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> Response:
    """Tracks of the faces in a video (mp4, mov, webm, avi, gif), sampled at `fps` frames a second."""
    settings = context.settings
    faces = FaceOptions(query.max_faces, query.min_confidence)
    options = VideoOptions(faces, query.fps, query.start_s, query.end_s, query.temporal, query.smoothing)
    info = model.info if query.temporal == "auto" else model.framewise
    with NamedTemporaryFile(dir=context.directory) as file:
        async with negotiated(request, "video_deadline_s", settings):
            with model.pipeline.admitted(Lane.BULK) as ticket:
                await receive(request, file, raw_types=("video/", "image/gif"), max_bytes=settings.max_upload_bytes)
                async with while_client_waits(request):
                    analysis = await model.pipeline.analyze_video(Path(file.name), options, ticket)
                    body = await model.pipeline.render(lambda: video_json(analysis, info, request_id))
    return Response(body, headers={"Server-Timing": server_timing(analysis.timings_s)}, media_type="application/json")
