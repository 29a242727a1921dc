"""What clients send wrongly: each gets the contract's error, and the next request is answered."""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.service.fakes import FakePredictor
from tests.service.media_files import audio_only_mp4, encoded, mp4, pillow, png


@pytest.fixture(autouse=True)
def next_request_is_answered(client: TestClient) -> Iterator[None]:
    yield
    assert client.post("/analyze/frame", files={"file": png(100)}).status_code == 200
    assert list(client.app.state.context.directory.iterdir()) == []


def refused(response: object, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert not re.search(r"(^|\s)/(?!analyze/)", document["detail"])  # no path of the server
    return document


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that promises width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def frame(client: TestClient, content: bytes, name: str = "x.jpg") -> object:
    return client.post("/analyze/frame", files={"file": (name, content)})


def video(client: TestClient, content: bytes, **params: object) -> object:
    return client.post("/analyze/video", files={"file": ("x.mp4", content)}, params=params)


class TestFrames:
    def test_text_named_jpg(self, client: TestClient) -> None:
        refused(frame(client, b"hello, world"), 415, "unsupported_media_type")

    def test_empty_file(self, client: TestClient) -> None:
        response = frame(client, b"")
        assert response.status_code in (415, 422)
        refused(response, response.status_code, response.json()["code"])

    def test_truncated_jpeg(self, client: TestClient) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
        content = encoded(noise, ".jpg")
        refused(frame(client, content[: len(content) // 2]), 422, "undecodable_media")

    def test_huge_picture(self, client: TestClient) -> None:
        document = refused(frame(client, bomb(20_000, 20_000)), 413, "too_many_pixels")
        assert document["limit"] == {"name": "AFFECT_MAX_PIXELS", "value": 1_000_000}

    def test_animated_gif(self, client: TestClient) -> None:
        frames = [Image.new("L", (32, 32), level) for level in (50, 200)]
        content = pillow(frames[0], "GIF", save_all=True, append_images=frames[1:])
        document = refused(frame(client, content, "x.gif"), 415, "unsupported_media_type")
        assert document["detail"] == "this is a GIF animation: POST /analyze/video"

    def test_video_sent_as_a_frame(self, client: TestClient, tmp_path: Path) -> None:
        document = refused(frame(client, mp4(tmp_path / "v.mp4", [100] * 3)), 415, "unsupported_media_type")
        assert document["detail"] == "this is an MP4 video: POST /analyze/video"

    def test_tiff(self, client: TestClient) -> None:
        document = refused(frame(client, pillow(Image.new("L", (8, 8)), "TIFF")), 415, "unsupported_media_type")
        assert document["detail"] == "found a TIFF picture or a raw photo; convert it to JPEG or PNG"

    def test_damaged_inside(self, client: TestClient) -> None:
        content = bytearray(png(100))
        content[40:60] = bytes(20)
        refused(frame(client, bytes(content)), 422, "undecodable_media")


class TestForms:
    def test_wrong_field(self, client: TestClient) -> None:
        refused(client.post("/analyze/frame", files={"image": png(9)}), 400, "malformed_request")

    @pytest.mark.parametrize(
        ("disposition", "detail"),
        [
            ('name="file"', "the part named file is a text and no file; forgot @? (curl -F file=@photo.jpg)"),
            (
                'name="image"; filename="x"',
                "the form must have one part named file, perhaps one named baseline, and no other; found 'image'",
            ),
            (
                "name=\"file\"; filename*=UTF-8''x.png",
                "the part named file has a file name as filename*, which forms must not use (RFC 7578): send filename",
            ),
            (None, "the form has no part named file; send the picture or the video in one"),
        ],
        ids=["text", "other name", "filename*", "empty"],
    )
    def test_a_form_without_a_file_is_told_what_to_send(
        self, client: TestClient, disposition: str | None, detail: str
    ) -> None:
        part = "" if disposition is None else f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\nphoto\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post("/analyze/frame", content=f"{part}--b--\r\n", headers=headers)
        assert refused(answer, 400, "malformed_request")["detail"] == detail

    def test_two_files(self, client: TestClient) -> None:
        files = [("file", ("a.png", png(9))), ("file", ("b.png", png(9)))]
        refused(client.post("/analyze/frame", files=files), 400, "malformed_request")

    def test_field_that_nobody_reads(self, client: TestClient) -> None:
        response = client.post("/analyze/frame", files={"file": png(9)}, data={"max_faces": "1"})
        refused(response, 400, "malformed_request")

    def test_text_in_the_files_place(self, client: TestClient) -> None:
        body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello\r\n--b--\r\n'
        headers = {"content-type": "multipart/form-data; boundary=b"}
        refused(client.post("/analyze/frame", content=body, headers=headers), 400, "malformed_request")

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=b", b""),
            ("multipart/form-data; boundary=b", b"not a form at all"),
            (
                "multipart/form-data; boundary=b",
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nab',
            ),
            (
                "multipart/form-data; boundary=b",
                b"--b\r\nX-Long: "
                + b"a" * 200_000
                + b'\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nab\r\n--b--\r\n',
            ),
        ],
        ids=["no boundary", "empty", "garbage", "cut off", "huge header"],
    )
    def test_broken_multipart(self, client: TestClient, content_type: str, body: bytes) -> None:
        response = client.post("/analyze/frame", content=body, headers={"content-type": content_type})
        refused(response, 400, "malformed_request")

    def test_body_of_another_type(self, client: TestClient) -> None:
        response = client.post("/analyze/frame", json={"url": "x"})
        refused(response, 415, "unsupported_media_type")

    @pytest.mark.parametrize("announced", [True, False])
    def test_upload_too_large(self, client: TestClient, announced: bool) -> None:
        chunk = bytes(100_000)
        body = chunk * 30 if announced else (chunk for _ in range(30))
        response = client.post("/analyze/frame", content=body, headers={"content-type": "image/png"})
        document = refused(response, 413, "upload_too_large")
        assert document["limit"] == {"name": "AFFECT_MAX_UPLOAD_BYTES", "value": 2_000_000}


class TestVideos:
    def test_text(self, client: TestClient) -> None:
        refused(video(client, b"hello"), 415, "unsupported_media_type")

    def test_picture_sent_as_a_video(self, client: TestClient) -> None:
        refused(video(client, png(9)), 415, "unsupported_media_type")

    def test_audio_only(self, client: TestClient, tmp_path: Path) -> None:
        refused(video(client, audio_only_mp4(tmp_path / "a.mp4")), 422, "no_video_frames")

    def test_truncated_mp4(self, client: TestClient, tmp_path: Path) -> None:
        content = mp4(tmp_path / "v.mp4", [100] * 30)
        refused(video(client, content[: len(content) // 2]), 422, "undecodable_media")

    def test_too_long(self, client: TestClient, tmp_path: Path) -> None:
        content = mp4(tmp_path / "v.mp4", [100] * 30, fps=1)
        document = refused(video(client, content), 413, "video_too_long")
        assert document["limit"]["name"] == "AFFECT_MAX_VIDEO_S"
        assert video(client, content, end_s=5).status_code == 200

    def test_too_many_pixels(self, client: TestClient, tmp_path: Path) -> None:
        content = mp4(tmp_path / "v.mp4", [100], size=(2048, 1024))
        refused(video(client, content), 413, "too_many_pixels")

    def test_window_after_the_end(self, client: TestClient, tmp_path: Path) -> None:
        content = mp4(tmp_path / "v.mp4", [100] * 10)
        for start_s in (50, 1e308):
            refused(video(client, content, start_s=start_s), 422, "invalid_parameter")

    def test_empty_window(self, client: TestClient, tmp_path: Path) -> None:
        content = mp4(tmp_path / "v.mp4", [100] * 10)
        refused(video(client, content, start_s=0.5, end_s=0.5), 422, "invalid_parameter")


class TestParameters:
    @pytest.mark.parametrize(
        ("route", "params"),
        [
            ("frame", {"max_faces": 0}),
            ("frame", {"max_faces": 65}),
            ("frame", {"max_faces": "many"}),
            ("frame", {"min_confidence": 1.5}),
            ("frame", {"fps": 3}),
            ("video", {"fps": 0}),
            ("video", {"start_s": -1}),
            ("video", {"smoothing": "kalman"}),
            ("video", {"temporal": "always"}),
            ("video", {"annotated": "true"}),
            ("video", {"columns": "excel"}),
            ("video", {"url": "http://example.org"}),
        ],
    )
    def test_refused_by_name(self, client: TestClient, route: str, params: dict[str, object]) -> None:
        response = client.post(f"/analyze/{route}", files={"file": png(9)}, params=params)
        document = refused(response, 422, "invalid_parameter")
        assert next(iter(params)) in document["detail"]

    @pytest.mark.parametrize("number", ["inf", "-Infinity", "nan", "1e999"])
    @pytest.mark.parametrize(
        ("method", "path", "name", "kind"),
        [
            ("POST", "/analyze/frame", "max_faces", "valid integer"),
            ("POST", "/analyze/frame", "min_confidence", "finite number"),
            ("POST", "/analyze/video", "min_confidence", "finite number"),
            ("POST", "/analyze/video", "fps", "finite number"),
            ("POST", "/analyze/video", "start_s", "finite number"),
            ("POST", "/analyze/video", "end_s", "finite number"),
            ("POST", "/analyze/video", "baseline_s", "finite number"),
            ("GET", "/live", "max_faces", "valid integer"),
        ],
    )
    def test_numbers_that_are_not_finite(
        self, client: TestClient, method: str, path: str, name: str, kind: str, number: str
    ) -> None:
        response = client.request(method, path, files={"file": png(9)}, params={name: number})
        detail = refused(response, 422, "invalid_parameter")["detail"]
        assert detail.startswith(f"{name}: Input should be a {kind}")

    @pytest.mark.parametrize("accept", ["video/mp4", "text/html", "application/json;q=0", "text/*;q=0, text/html"])
    @pytest.mark.parametrize("route", ["frame", "video"])
    def test_media_types_that_are_not_built(self, client: TestClient, route: str, accept: str) -> None:
        response = client.post(f"/analyze/{route}", files={"file": png(9)}, headers={"accept": accept})
        document = refused(response, 406, "not_acceptable")
        assert "application/json" in document["detail"]

    @pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
    def test_a_picture_has_no_other_answer_than_a_document(self, client: TestClient, accept: str) -> None:
        refused(
            client.post("/analyze/frame", files={"file": png(9)}, headers={"accept": accept}), 406, "not_acceptable"
        )

    @pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
    def test_columns_of_an_answer_that_has_none(self, client: TestClient, accept: str) -> None:
        response = client.post(
            "/analyze/video", files={"file": png(9)}, params={"columns": "native"}, headers={"accept": accept}
        )
        assert refused(response, 422, "invalid_parameter")["detail"].startswith("columns: ")

    def test_jobs_are_not_built(self, client: TestClient) -> None:
        response = client.post("/analyze/video", files={"file": png(9)}, headers={"prefer": "respond-async"})
        refused(response, 422, "invalid_parameter")


class TestPaths:
    def test_unknown(self, client: TestClient) -> None:
        refused(client.get("/nowhere"), 404, "not_found")

    def test_wrong_method(self, client: TestClient) -> None:
        document = refused(client.get("/analyze/frame"), 405, "method_not_allowed")
        assert document["detail"] == "this path takes POST"


def test_a_failing_network_is_an_internal_error(client: TestClient, predictor: FakePredictor) -> None:
    predictor.failing = RuntimeError("weights on fire")
    response = frame(client, png(100))
    document = refused(response, 500, "internal_error")
    assert "fire" not in document["detail"]
    predictor.failing = None
