"""The OpenAPI document against the running service: what it promises holds for whatever a client may send."""

import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import from_pillow
from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_asgi
from schemathesis.schemas import BaseSchema

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import encoded, pillow

KEY = "a-key-of-the-tests"
WITH_KEY = {"X-API-Key": KEY}
# No schema can say that end_s comes after start_s, and start_s before the video's end.
VIDEO = {
    "include-name": "POST /analyze/video",
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 422]}},
}


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
    limits = {"max_pixels": 1_000_000, "max_upload_bytes": 2_000_000}
    # Of the highest confidence: no schema can say that a baseline must show a face by `min_confidence`.
    detector = FakeDetector(face_at(8, 8, 32, confidence=1.0))
    app = create_app(Settings(api_keys=keys, **limits), detector, FakePredictor())
    # Keys are not made up: beside a right one a wrong one does no harm.
    options = {
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx"]}},
        "operations": [VIDEO],
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
