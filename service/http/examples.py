"""Examples for the OpenAPI document: an answer of each route, and each error that a route may answer with.

Analyses are examples in the way in which answers are made, by the sinks, so that they have every field.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from model_core.affect import ACTION_UNITS, LABEL_SETS, TASKS, ActionUnit, Affect, Expression
from model_core.faces.geometry import Box, Face, Landmarks, Point
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality
from service.analysis.results import FaceResult, FrameResult
from service.errors import (
    DeadlineExceeded,
    Draining,
    IdempotencyConflict,
    InternalError,
    InvalidBaseline,
    InvalidParameter,
    JobExpired,
    Limit,
    MalformedRequest,
    NotAcceptable,
    NotFound,
    NotReady,
    NoVideoFrames,
    OriginNotAllowed,
    OutOfResources,
    Overloaded,
    RangeNotSatisfiable,
    ServiceError,
    StorageFull,
    TooManyPixels,
    Unauthorized,
    UndecodableMedia,
    UnsupportedMediaType,
    UpgradeRequired,
    UploadTooLarge,
    VideoTooLong,
)
from service.media.videos import MediaInfo, Window
from service.output.csv import CsvStream, NativeColumns
from service.output.document import FrameDocument, VideoDocument
from service.output.ndjson import NdjsonStream
from service.output.notes import RateNotes
from service.output.schemas import Health, ModelInfo, TaskInfo, UnitInfo
from service.output.sink import Ending, Sink

REQUEST_ID = "7c0f2a9b4d1e4c5f8a6b3d2e1f0a9b8c"
JOB_ID = "3f9a6c1d2b7e4805"

_SHA256 = "fb4336dbbe7077976bc3f88980d1c65ecf67c580b5d61ce57c4c0648ac5ecaf5"
_LABELS = LABEL_SETS["ferplus"]
_PROBABILITIES = dict.fromkeys(_LABELS, 0.0) | {"neutral": 0.05, "happiness": 0.9, "surprise": 0.05}
_UNITS = {unit: ActionUnit(0.91, True) if unit == "AU12" else ActionUnit(0.04, False) for unit in ACTION_UNITS}
_FACE = FaceResult(
    track_id=1,
    face=Face(
        Box(412.0, 150.5, 203.0, 221.0),
        Landmarks(
            Point(470.1, 232.0), Point(556.4, 229.8), Point(515.2, 280.3), Point(481.0, 322.6), Point(549.7, 320.9)
        ),
        0.98,
    ),
    pose=Pose(-12.1, 3.4, 1.0),
    affect=Affect(0.61, 0.22, Expression("happiness", _PROBABILITIES), _UNITS, ActionUnit(0.01, False)),
    quality=Quality(203, 0.7),
)
_FRAMES = (FrameResult(0.0, 0, (_FACE,)), FrameResult(0.1, 3, ()))
_VIDEO = MediaInfo(1280, 720, fps=29.97, start_s=0.0, duration_s=0.2)
_PICTURE = MediaInfo(1280, 720)
_TIMES_S = {"decode": 0.0061, "detect": 0.0118, "predict": 0.0142, "total": 0.033}


def _task(reference: str, units: dict[str, UnitInfo] | None = None) -> TaskInfo:
    about = {"bundle": "ferplus-ddamfn", "version": "6.10", "sha256": _SHA256, "calibrated": True}
    return TaskInfo.model_validate(about | {"reference": reference, "units": units})


_MODEL = ModelInfo(
    device="cpu",
    engine="openvino",
    precision="float32",
    detector="yuface-2023.5.1+refined-1",
    tasks={
        "valence_arousal": _task("derived"),
        "expression": _task("annotated"),
        "action_units": _task(
            "derived",
            {
                unit: UnitInfo(
                    name=name,
                    threshold=0.62,
                    validated="rendered",
                    r=0.87,
                    auroc=0.97,
                    reference="derived",
                    change_r=0.8,
                    change_auroc=0.98,
                )
                for unit, name in ACTION_UNITS.items()
            },
        ),
        "eyes_closed": _task("derived").model_copy(update={"threshold": 0.39}),
        "unit_changes": _task("rendered"),
    },
)

_JOB = {
    "id": JOB_ID,
    "state": "running",
    "progress": 0.4,
    "media_type": "text/csv",
    "created_at": "2026-11-28T09:00:00Z",
    "started_at": "2026-11-28T09:00:01Z",
}

_MODELS = {
    "device": _MODEL.device,
    "engine": _MODEL.engine,
    "precision": _MODEL.precision,
    "detector": _MODEL.detector,
    "bundles": [
        {
            "name": "ferplus-ddamfn",
            "version": "6.10",
            "sha256": _SHA256,
            "licence": "Apache-2.0",
            "tasks": _MODEL.model_dump(exclude_none=True)["tasks"],
            "answers": list(TASKS),
            "labels": list(_LABELS),
            "input": {"size": 112, "channels": "grey", "mean": [0.5], "std": [0.25], "template": "arcface-1"},
            "calibration": {"expression": {"temperature": 1.1}},
            "prepared_with": _MODEL.detector,
            "training": {"dataset": "ferplus"},
            "quality": {"expression": {"accuracy": 0.876}},
        }
    ],
    "video_fps": 10.0,
    "limits": {"AFFECT_MAX_PIXELS": 50_000_000, "AFFECT_MAX_UPLOAD_BYTES": 104_857_600},
}

_METRICS = """# HELP affect_requests_total Requests by route and status.
# TYPE affect_requests_total counter
affect_requests_total{route="/analyze/frame",status="200"} 42.0
"""


def _answered(sink: Sink, info: MediaInfo, *frames: FrameResult) -> str:
    pieces = [sink.begin(info), *(sink.add(frame) for frame in frames), *sink.end(Ending(False, _TIMES_S))]
    return b"".join(pieces).decode()


def _analyses() -> dict[str, Any]:
    """Return a video's analysis in each media type."""
    window, notes = Window(), RateNotes((), Window())
    document = _answered(VideoDocument(_MODEL, REQUEST_ID, notes), _VIDEO, *_FRAMES)
    return {
        "application/json": json.loads(document),
        "application/x-ndjson": _answered(NdjsonStream(_MODEL, REQUEST_ID, window, notes), _VIDEO, *_FRAMES),
        "text/csv": _answered(CsvStream(NativeColumns(TASKS, _LABELS)), _VIDEO, *_FRAMES),
    }


@cache
def answers() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """Return the examples of successful answers by path and status, and then by media type."""
    picture = json.loads(_answered(FrameDocument(_MODEL, REQUEST_ID), _PICTURE, _FRAMES[0]))
    analyses = _analyses()
    health = {"application/json": Health().model_dump()}
    job = {"application/json": _JOB}
    return {
        ("/analyze/frame", "200"): {"application/json": picture},
        ("/analyze/video", "200"): analyses,
        ("/analyze/video", "202"): job,
        ("/jobs/{job_id}", "200"): job,
        ("/jobs/{job_id}/result", "200"): analyses,
        ("/healthz", "200"): health,
        ("/readyz", "200"): health,
        ("/models", "200"): {"application/json": _MODELS},
        ("/metrics", "200"): {"text/plain": _METRICS, "application/openmetrics-text": _METRICS + "# EOF\n"},
    }


_ANYWHERE: tuple[ServiceError, ...] = (
    Unauthorized(),
    NotAcceptable("the answer is available as application/json"),
    InvalidParameter("max_faces: Input should be less than or equal to 64"),
    InternalError(),
    NotReady("no model is loaded"),
    Draining("the service is shutting down"),
    OutOfResources("the process has no file descriptors left"),
)
_OF_UPLOADS: tuple[ServiceError, ...] = (
    MalformedRequest("the form has no part named file; send the picture or the video in one"),
    UploadTooLarge(
        "the body is larger than 104857600 bytes", limit=Limit(name="AFFECT_MAX_UPLOAD_BYTES", value=104_857_600)
    ),
    TooManyPixels(
        "the picture has 120000000 pixels, more than 50000000", limit=Limit(name="AFFECT_MAX_PIXELS", value=50_000_000)
    ),
    UnsupportedMediaType("the content is no format that this route reads"),
    UndecodableMedia("the uploaded file is empty"),
    Overloaded(
        "the queue is longer than the longest wait", retry_after_s=3, limit=Limit(name="AFFECT_MAX_WAIT_S", value=5)
    ),
    DeadlineExceeded("the answer was not complete within 60 s", limit=Limit(name="AFFECT_DEADLINE_S", value=60)),
    StorageFull("there is no disk space for the upload"),
)
_OF_PICTURES = (InvalidBaseline("baseline: the picture must show exactly one face, and 2 were found"),)
_OF_VIDEOS: tuple[ServiceError, ...] = (
    VideoTooLong("the requested part is longer than 600 seconds", limit=Limit(name="AFFECT_MAX_VIDEO_S", value=600)),
    NoVideoFrames("the file has no pictures"),
)
_OF_JOBS: tuple[ServiceError, ...] = (
    IdempotencyConflict("the Idempotency-Key belongs to another request"),
    NotFound("there is no such job"),
    JobExpired("the job's result was kept until 2026-11-29 09:00:00 UTC"),
    StorageFull("there is no disk space for the table of jobs"),
    RangeNotSatisfiable("the file has 5242880 bytes", size=5_242_880),
)
_OF_LIVE: tuple[ServiceError, ...] = (
    OriginNotAllowed("pages of this origin may not connect; AFFECT_ALLOWED_ORIGINS names those that may"),
    UpgradeRequired(),
    Overloaded("there are 32 live connections", retry_after_s=5, limit=Limit(name="AFFECT_LIVE_CONNECTIONS", value=32)),
)

ERRORS = (*_ANYWHERE, *_OF_UPLOADS, *_OF_PICTURES, *_OF_VIDEOS, *_OF_JOBS, *_OF_LIVE)
"""An example of each error that the document describes."""

_BY_PATH: Mapping[str, tuple[ServiceError, ...]] = {
    "/analyze/frame": (*_ANYWHERE, *_OF_UPLOADS, *_OF_PICTURES),
    "/analyze/video": (*_ANYWHERE, *_OF_UPLOADS, *_OF_VIDEOS, *_OF_JOBS),
    "/live": (*_ANYWHERE, *_OF_LIVE),
    "/jobs/{job_id}": (*_ANYWHERE, *_OF_JOBS),
    "/jobs/{job_id}/result": (*_ANYWHERE, *_OF_JOBS, *_OF_UPLOADS, *_OF_VIDEOS),
}


def errors(path: str, status: str) -> Mapping[str, Mapping[str, object]]:
    """Return the problem documents that a route may answer with a status, by their code."""
    found = [error for error in _BY_PATH.get(path, _ANYWHERE) if str(error.status) == status]
    return {error.code: {"summary": error.title, "value": error.document(REQUEST_ID)} for error in found}
