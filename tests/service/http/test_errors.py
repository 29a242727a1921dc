import logging
from pathlib import Path

import pytest
from fastapi import FastAPI, Query, Request, UploadFile
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import errors
from service.errors import Limit, Overloaded, ServiceError, TooManyPixels
from service.http.problems import install_handlers

CONTRACT = {
    "malformed_request": 400,
    "unauthorized": 401,
    "origin_not_allowed": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "idempotency_conflict": 409,
    "job_expired": 410,
    "upload_too_large": 413,
    "too_many_pixels": 413,
    "video_too_long": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "undecodable_media": 422,
    "no_video_frames": 422,
    "invalid_parameter": 422,
    "invalid_baseline": 422,
    "upgrade_required": 426,
    "overloaded": 429,
    "client_gone": 499,
    "internal_error": 500,
    "not_ready": 503,
    "draining": 503,
    "out_of_resources": 503,
    "deadline_exceeded": 504,
    "storage_full": 507,
}


def too_many_pixels() -> TooManyPixels:
    return TooManyPixels("4 x 4 is too much", limit=Limit(name="AFFECT_MAX_PIXELS", value=9))


def app() -> FastAPI:
    app = FastAPI()
    install_handlers(app)

    @app.middleware("http")
    async def request_id(request: Request, call_next: RequestResponseEndpoint) -> Response:
        request.state.request_id = "r-1"
        return await call_next(request)

    @app.get("/pixels")
    def pixels() -> None:
        raise too_many_pixels()

    @app.get("/busy")
    def busy() -> None:
        raise Overloaded("come back", retry_after_s=2.1)

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("secret /srv/weights.bin")

    @app.get("/query")
    def query(max_faces: int = Query(16, ge=1, le=64), fps: float = 1.0) -> None: ...

    @app.post("/upload")
    def upload(file: UploadFile) -> None: ...

    @app.get("/http/{status}")
    def http(status: int) -> None:
        raise HTTPException(status)

    @app.get("/gone")
    def gone() -> None:
        raise ClientDisconnect

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(app(), raise_server_exceptions=False)


def test_the_tree_has_the_codes_and_statuses_of_the_contract() -> None:
    assert {kind.code: kind.status for kind in ServiceError.__subclasses__()} == CONTRACT
    assert all(kind.__name__ in str(errors.__doc__) for kind in ServiceError.__subclasses__())


def test_the_page_about_the_interface_has_every_code_that_a_client_can_see() -> None:
    page = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")
    assert [code for code in CONTRACT if f"`{code}`" not in page] == ["client_gone"]


def test_a_problem_has_the_fields_of_rfc_9457_and_names_a_broken_limit() -> None:
    assert too_many_pixels().document("r-9") == {
        "type": "urn:affect:problem:too_many_pixels",
        "title": "Too many pixels",
        "status": 413,
        "detail": "4 x 4 is too much",
        "code": "too_many_pixels",
        "request_id": "r-9",
        "limit": {"name": "AFFECT_MAX_PIXELS", "value": 9},
    }
    assert "limit" not in errors.NotReady("warming up").document("")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/pixels", 413, "too_many_pixels"),
        ("GET", "/busy", 429, "overloaded"),
        ("GET", "/crash", 500, "internal_error"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/pixels", 405, "method_not_allowed"),
        ("GET", "/query?max_faces=65", 422, "invalid_parameter"),
        ("POST", "/upload", 400, "malformed_request"),
        ("GET", "/http/413", 413, "upload_too_large"),
        ("GET", "/http/418", 400, "malformed_request"),
        ("GET", "/http/502", 500, "internal_error"),
        ("GET", "/gone", 499, "client_gone"),
    ],
)
def test_whatever_is_raised_becomes_a_problem(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["code"], body["status"], body["request_id"]) == (code, status, "r-1")


def test_headers_tell_when_to_come_back_and_which_methods_are_allowed(client: TestClient) -> None:
    assert client.get("/busy").headers["retry-after"] == "3"
    assert Overloaded("", retry_after_s=0.01).headers == {"Retry-After": "1"}
    refused = client.post("/pixels")
    assert (refused.headers["allow"], refused.json()["detail"]) == ("GET, HEAD", "this path takes GET, HEAD")


def test_a_wrong_parameter_is_named(client: TestClient) -> None:
    detail = client.get("/query?max_faces=0&fps=fast").json()["detail"]
    assert detail.startswith("max_faces: Input should be greater than or equal to 1; fps: ")
    assert "fast" not in detail


def test_bytes_of_a_wrong_body_are_not_repeated(client: TestClient) -> None:
    response = client.post("/upload", data={"file": "PRIVATE"})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("file: ")
    assert "PRIVATE" not in response.text
    broken = client.post("/upload", content=b"PRIVATE", headers={"Content-Type": "multipart/form-data"})
    assert broken.json()["code"] == "malformed_request"


def test_a_crash_is_logged_once_and_tells_the_client_nothing(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.get("/crash")
    assert "secret" not in response.text
    records = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in records] == ["request r-1 failed"]
    assert "secret /srv/weights.bin" in caplog.text


def test_a_crash_in_a_route_does_not_reach_the_server() -> None:
    # The server would log the traceback a second time.
    assert TestClient(app()).get("/crash").status_code == 500


def test_a_crash_in_middleware_is_a_problem_too_and_is_left_for_the_server_to_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(request: Request, call_next: RequestResponseEndpoint) -> Response:
        raise RuntimeError("secret")

    faulty = app()
    faulty.add_middleware(BaseHTTPMiddleware, dispatch=broken)
    response = TestClient(faulty, raise_server_exceptions=False).get("/query")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.json()["request_id"] == ""
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError):
        TestClient(faulty).get("/query")
    assert "secret" not in caplog.text
