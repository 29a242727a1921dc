"""API keys: what opens the service, what stays closed, and that a key shows nowhere."""

import asyncio
import hmac
import json
from collections.abc import Iterator

import pytest
import structlog
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from starlette.testclient import WebSocketDenialResponse

from service.app import create_app
from service.http.security import ApiKeys
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import png

KEYS = ("first-key-0123456", "second-key-012345")
FIRST, SECOND = KEYS


def service(**settings: object) -> TestClient:
    app = create_app(Settings(**settings), FakeDetector(face_at(8, 8, 32)), FakePredictor())
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    with service(api_keys=KEYS) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ([(b"authorization", b"Bearer first-key-0123456")], True),
        ([(b"authorization", b"bearer  second-key-012345 ")], True),
        ([(b"x-api-key", b"first-key-0123456")], True),
        ([(b"x-api-key", b"second-key-012345")], True),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"second-key-012345")], True),
        ([(b"x-api-key", b"wrong"), (b"authorization", b"Bearer first-key-0123456")], True),
        ([], False),
        ([(b"x-api-key", b"")], False),
        ([(b"x-api-key", b"first-key-012345")], False),
        ([(b"x-api-key", b"FIRST-KEY-0123456")], False),
        ([(b"x-api-key", b"first-key-0123456,second-key-012345")], False),
        ([(b"x-api-key", "schlüssel".encode("latin-1"))], False),
        ([(b"authorization", b"first-key-0123456")], False),
        ([(b"authorization", b"Bearer")], False),
        ([(b"authorization", b"Basic first-key-0123456")], False),
        ([(b"cookie", b"first-key-0123456")], False),
    ],
)
def test_either_header_with_any_key_opens(headers: list[tuple[bytes, bytes]], admitted: bool) -> None:
    assert (ApiKeys([SecretStr(key) for key in KEYS]).caller(headers) is not None) is admitted


def test_every_key_is_compared_wherever_the_right_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    equal = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a) == len(b) == 32) or equal(a, b))
    keys = ApiKeys([SecretStr(key) for key in (*KEYS, "third-key-0123456")])
    for offered in (FIRST, "third-key-0123456", "none-of-the-three"):
        compared.clear()
        keys.caller([(b"x-api-key", offered.encode())])
        assert compared == [True, True, True]


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}])
def test_without_a_key_there_is_a_401_that_says_how_to_send_one(guarded: TestClient, headers: dict[str, str]) -> None:
    response = guarded.post("/analyze/frame", files={"file": png(100)}, headers=headers | {"X-Request-ID": "r-1"})
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"] == "r-1"
    assert response.json() == {
        "type": "urn:affect:problem:unauthorized",
        "title": "Unauthorized",
        "status": 401,
        "detail": "send one of the service's API keys as Authorization: Bearer or as X-API-Key",
        "code": "unauthorized",
        "request_id": "r-1",
    }


@pytest.mark.parametrize("headers", [{"X-API-Key": SECOND}, {"Authorization": f"Bearer {FIRST}"}])
def test_with_a_key_the_service_answers(guarded: TestClient, headers: dict[str, str]) -> None:
    assert guarded.post("/analyze/frame", files={"file": png(100)}, headers=headers).status_code == 200
    assert guarded.get("/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("POST", "/healthz", 405),
        ("GET", "/models", 401),
        ("GET", "/openapi.json", 401),
        ("POST", "/analyze/video", 401),
        ("GET", "/analyze/frame", 401),
        ("GET", "/nowhere", 401),
        ("GET", "/healthz/", 401),
        ("GET", "/metrics/../models", 401),
        ("GET", "//models", 401),
    ],
)
def test_what_is_not_open_is_closed_even_where_nothing_is(
    guarded: TestClient, method: str, path: str, status: int
) -> None:
    assert guarded.request(method, f"http://testserver{path}").status_code == status


def test_operations_can_be_closed_too() -> None:
    with service(api_keys=KEYS, protect_operations=True) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": FIRST}).status_code == 200


def test_no_byte_of_a_refused_body_is_read(guarded: TestClient) -> None:
    sent = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was asked for")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/analyze/frame", "headers": [], "query_string": b""}
    asyncio.run(guarded.app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_a_websocket_needs_a_key_too(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, guarded.websocket_connect("/healthz"):
        pass
    assert (refused.value.status_code, refused.value.json()["code"]) == (401, "unauthorized")


def test_refusals_are_counted_by_reason(guarded: TestClient) -> None:
    for path in ("/models", "/nowhere"):
        guarded.get(path)
    metrics = guarded.get("/metrics").text
    assert 'affect_rejected_total{reason="unauthorized"} 2.0' in metrics
    assert 'affect_requests_total{route="/models",status="401"} 1.0' in metrics
    assert 'affect_requests_total{route="unmatched",status="401"} 1.0' in metrics


def test_a_key_shows_nowhere(guarded: TestClient) -> None:
    with structlog.testing.capture_logs() as log:
        texts = [guarded.get("/models", headers={"X-API-Key": FIRST}).text]
        texts += [guarded.get("/models", headers={"X-API-Key": FIRST + "x"}).text, guarded.get("/metrics").text]
    assert len(log) == 3
    settings = Settings(api_keys=KEYS)
    texts += [str(log), repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    texts += [repr(vars(ApiKeys(settings.api_keys)))]
    with pytest.raises(ValidationError) as refused:
        Settings(api_keys=f"{FIRST},short")
    texts += [str(refused.value), repr(refused.value)]
    assert not [text for text in texts if "first-key" in text or "short" in text.replace("shorter", "")]


def test_the_document_tells_which_routes_need_a_key(guarded: TestClient) -> None:
    document = guarded.get("/openapi.json", headers={"X-API-Key": FIRST}).json()
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    assert document["security"] == [{"bearer": []}, {"header": []}]  # one of the two
    operations = {path: next(iter(methods.values())) for path, methods in document["paths"].items()}
    open_paths = {path for path, operation in operations.items() if operation.get("security") == []}
    assert open_paths == {"/healthz", "/readyz", "/metrics"}
    assert {path for path, operation in operations.items() if "401" in operation["responses"]} == {
        "/analyze/frame",
        "/analyze/video",
        "/jobs/{job_id}",
        "/jobs/{job_id}/result",
        "/live",
        "/models",
    }
    with service() as client:
        assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
        assert "401" not in json.dumps(client.get("/openapi.json").json())
