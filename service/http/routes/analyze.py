"""POST /analyze/frame and POST /analyze/video."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service.http.answers import AnalysisResponse
from service.http.dependencies import ContextDep, ModelDep, RequestId
from service.http.negotiation import negotiated, only_known_headers, parameters_once, time_limits
from service.http.openapi import problems, streamed, timed, upload
from service.http.queries import FrameQuery, VideoQuery
from service.http.sinks import VIDEO_MEDIA_TYPES, video_sink
from service.http.uploads import picture_upload, video_upload
from service.output.document import FrameDocument
from service.output.schemas import FrameResponse, VideoResponse

BASELINE = (
    "A picture of the same person at rest, in which exactly one face is found with `min_confidence`. Every face of the "
    "answer then carries `change`, its difference to that one; false alarms of `rose` are as rare as stated where pose "
    "and light are about the same. Both pictures together count for the limit of bytes, "
    "each for that of pixels. Nothing of them is kept."
)
"""Description of the form's second file."""

router = APIRouter(dependencies=[Depends(parameters_once), Depends(only_known_headers)])


@router.post(
    "/analyze/frame",
    response_model=FrameResponse,
    responses=timed() | problems(400, 406, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=upload(
        "image/jpeg", "image/png", "image/webp", "image/heic", "image/avif", "image/bmp", baseline=BASELINE
    ),
)
async def analyze_frame(
    request: Request, query: Annotated[FrameQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> Response:
    """Faces of a picture (JPEG, PNG, WebP, HEIC, AVIF, BMP) with valence-arousal, expression and action units."""
    negotiated(request, [FrameDocument.media_type])
    limits = time_limits(request, "deadline_s", context.settings)
    taken = picture_upload(context.directory, context.settings.max_upload_bytes, context.decoders, context.limits)
    sink = FrameDocument(model.info, request_id)
    return AnalysisResponse(model.pipeline, context.telemetry, taken, query.options(), sink, limits)


@router.post(
    "/analyze/video",
    response_model=VideoResponse,
    responses=timed(streamed()) | problems(400, 406, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=upload("video/mp4", "video/quicktime", "video/webm", "video/x-msvideo", "image/gif"),
)
async def analyze_video(
    request: Request, query: Annotated[VideoQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> Response:
    """Tracks of the faces in a video (MP4, MOV, WebM, Matroska, AVI, GIF, ...), as one document or frame by frame."""
    media_type = negotiated(request, VIDEO_MEDIA_TYPES)
    limits = time_limits(request, "video_deadline_s", context.settings)
    window = query.window(model.pipeline.ensemble(query.temporal))
    taken = video_upload(context.directory, context.settings.max_upload_bytes, context.decoders, context.limits, window)
    sink = video_sink(media_type, query, window, model, request_id)
    return AnalysisResponse(model.pipeline, context.telemetry, taken, query.options(), sink, limits)
