"""The OpenAPI document against the running service: what it promises holds for whatever a client may send."""

import io
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import from_pillow
from pydantic import TypeAdapter
from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_asgi
from schemathesis.schemas import BaseSchema

from service.app import create_app
from service.errors import ClientGone, MethodNotAllowed, ServiceError
from service.http.examples import ERRORS
from service.output.schemas import (
    FrameResponse,
    JobStatus,
    ModelsResponse,
    Problem,
    StreamLine,
    VideoResponse,
)
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import encoded, pillow

JOBS = tempfile.TemporaryDirectory()
KEY = "a-key-of-the-tests"
WITH_KEY = {"X-API-Key": KEY}
# No schema can say that end_s comes after start_s, and start_s before the video's end.
VIDEO = {
    "include-name": "POST /analyze/video",
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 409, 422]}},
}
# Nor which jobs there are.
JOB = {
    "include-path-regex": "^/jobs/",
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 404]}},
}
# And a WebSocket has no answer.
LIVE = {"include-name": "GET /live", "checks": {"positive_data_acceptance": {"expected-statuses": [426]}}}


def pictures() -> dict[str, bytes]:
    grey = np.full((48, 64, 3), 204, np.uint8)
    files = {f"image/{name}": encoded(grey, f".{name}") for name in ("jpeg", "png", "webp", "bmp")}
    heic = io.BytesIO()
    from_pillow(Image.fromarray(grey)).save(heic)
    return files | {"image/heic": heic.getvalue(), "image/avif": pillow(Image.fromarray(grey), "AVIF")}


def videos() -> dict[str, bytes]:
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (60, 120, 180)]
    first, *others = (Image.fromarray(frame) for frame in frames)
    files = {"image/gif": pillow(first, "GIF", save_all=True, append_images=others, duration=100)}
    containers = {
        "mp4": ("mp4", "mp4v"),
        "quicktime": ("mov", "mp4v"),
        "webm": ("webm", "VP80"),
        "x-msvideo": ("avi", "MJPG"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, codec) in containers.items():
            path = Path(folder, f"clip.{suffix}")
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
            for frame in frames:
                writer.write(frame)
            writer.release()
            files[f"video/{name}"] = path.read_bytes()
    return files


def described(*keys: str) -> BaseSchema:
    """The document of a service with these keys, and the service behind it."""
    limits = {"max_pixels": 1_000_000, "max_upload_bytes": 2_000_000, "jobs_dir": JOBS.name}
    # Of the highest confidence: no schema can say that a baseline must show a face by `min_confidence`.
    detector = FakeDetector(face_at(8, 8, 32, confidence=1.0))
    app = create_app(Settings(api_keys=keys, **limits), detector, FakePredictor())
    # Keys are not made up: beside a right one a wrong one does no harm.
    options = {
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx"]}},
        "operations": [VIDEO, JOB, LIVE],
        "generation": {"with-security-parameters": False},
    }
    return from_asgi("/openapi.json", app, config=SchemathesisConfig.from_dict(options), headers=WITH_KEY)


MEDIA = {"/analyze/frame": pictures(), "/analyze/video": videos()}
for files in MEDIA.values():
    for media_type, content in files.items():
        schemathesis.openapi.media_type(media_type, st.just(content))  # what is sent where the document asks for one


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """Wait a minute: a client that waits for a millisecond rightly gets a 504, which would pass for a fault."""
    asked = str(case.headers.get("X-Request-Timeout-Ms", ""))
    if asked.isdecimal() and int(asked) > 0:
        case.headers["X-Request-Timeout-Ms"] = "60000"


OPEN, CLOSED = described(), described(KEY)
QUICK = settings(
    derandomize=True, database=None, max_examples=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@OPEN.parametrize()
@QUICK
def test_the_service_does_what_the_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate()


@CLOSED.parametrize()
@settings(QUICK, max_examples=5)
def test_where_the_document_asks_for_a_key_nothing_else_opens(case: schemathesis.Case) -> None:
    case.call_and_validate(headers=WITH_KEY)  # and is sent again without the key, and with a wrong one


@pytest.mark.parametrize("path", MEDIA)
def test_every_documented_body_is_read(path: str) -> None:
    operation = OPEN[path]["POST"]
    files = MEDIA[path]
    assert set(operation.definition.raw["requestBody"]["content"]) == {"multipart/form-data", *files}
    for media_type, content in files.items():
        forms = [{"file": content}]
        if path == "/analyze/frame":
            forms.append({"file": content, "baseline": content})
        cases = [operation.Case(body=content, media_type=media_type)]
        cases += [operation.Case(body=form, media_type="multipart/form-data") for form in forms]
        for case in cases:
            response = case.call_and_validate()
            assert response.status_code == 200
            assert response.headers["server-timing"][0].startswith("decode;dur=")


def test_every_route_and_every_error_has_an_example() -> None:
    document = CLOSED.raw_schema
    described: set[tuple[str, str]] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    where = f"{method} {path} {status} {media_type}"
                    if media_type == "application/problem+json":
                        found = [each["value"] for each in content["examples"].values()]
                        assert found, where
                        assert {str(Problem.model_validate(each).status) for each in found} == {status}, where
                        described |= {(each["code"], status) for each in found}
                    elif content.get("schema", {}).get("format") != "binary":
                        assert content["example"], where
    assert described == {(error.code, str(error.status)) for error in ERRORS}
    unread = {ClientGone, MethodNotAllowed}  # which no route describes
    assert {type(error) for error in ERRORS} == set(ServiceError.__subclasses__()) - unread


def test_the_examples_are_answers_as_the_document_describes_them() -> None:
    paths = CLOSED.raw_schema["paths"]

    def example(path: str, media_type: str = "application/json", method: str = "post", status: str = "200") -> Any:
        return paths[path][method]["responses"][status]["content"][media_type]["example"]

    picture = FrameResponse.model_validate(example("/analyze/frame"))
    assert (picture.faces[0].valence, picture.timings_ms["total"]) == (0.61, 33)
    video = VideoResponse.model_validate(example("/analyze/video"))
    assert [frame.faces for frame in video.frames] == [[1], []]
    lines = example("/analyze/video", "application/x-ndjson").splitlines()
    assert [TypeAdapter(StreamLine).validate_json(line).type for line in lines] == [
        "video",
        "frame",
        "frame",
        "summary",
    ]
    table = pandas.read_csv(io.StringIO(example("/analyze/video", "text/csv")))
    assert (list(table.frame), table.AU12[0], table.AU12.isna()[1]) == ([0, 3], 0.91, True)
    assert JobStatus.model_validate(example("/analyze/video", status="202")).progress == 0.4
    assert ModelsResponse.model_validate(example("/models", method="get")).video_fps == 10
