"""POST /analyze/frame and POST /analyze/video."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service.http.answers import AnalysisResponse
from service.http.dependencies import ContextDep, ModelDep, RequestId
from service.http.jobs import accept_video
from service.http.negotiation import asks_for_job, negotiated, only_known_headers, parameters_once, time_limits
from service.http.openapi import accepted, problems, streamed, timed, upload
from service.http.queries import FrameQuery, VideoQuery
from service.http.sinks import ANNOTATED_MEDIA_TYPES, VIDEO_MEDIA_TYPES, video_sink
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
    taken = picture_upload(
        context.directory, context.settings.limit("max_upload_bytes"), context.decoders, context.limits
    )
    sink = FrameDocument(model.info, request_id)
    return AnalysisResponse(model.pipeline, context.telemetry, taken, query.options(), sink, limits)


@router.post(
    "/analyze/video",
    response_model=VideoResponse,
    responses=timed(streamed()) | accepted() | problems(400, 406, 409, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=upload("video/mp4", "video/quicktime", "video/webm", "video/x-msvideo", "image/gif", jobs=True),
)
async def analyze_video(
    request: Request, query: Annotated[VideoQuery, Query()], context: ContextDep, model: ModelDep, request_id: RequestId
) -> Response:
    """Tracks of the faces in a video (MP4, MOV, WebM, Matroska, AVI, GIF, ...), as one document or frame by frame.

    With `Prefer: respond-async` the upload becomes a job, whose state is at the answer's `Location`. Its result may
    also be the video with the analysis drawn on it, or with all faces hidden: `Accept: video/mp4` or `video/webm`.
    """
    if context.jobs is not None and asks_for_job(request):
        media_type = negotiated(request, VIDEO_MEDIA_TYPES + ANNOTATED_MEDIA_TYPES, jobs=True)
        return await accept_video(request, query, media_type, context, model, context.jobs)
    media_type = negotiated(request, VIDEO_MEDIA_TYPES)
    limits = time_limits(request, "video_deadline_s", context.settings)
    window = query.window(model.pipeline.ensemble(query.temporal))
    taken = video_upload(
        context.directory, context.settings.limit("max_upload_bytes"), context.decoders, context.limits, window
    )
    sink = video_sink(media_type, query, window, model, request_id)
    return AnalysisResponse(model.pipeline, context.telemetry, taken, query.options(), sink, limits)
