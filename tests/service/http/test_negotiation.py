"""Which media type answers an Accept header (RFC 9110, section 12.5.1)."""

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from service.errors import InvalidParameter, NotAcceptable
from service.http.negotiation import negotiated
from tests.service.media_files import png

OFFERED = ("application/json", "application/x-ndjson", "text/csv")


def request(**headers: str) -> Request:
    return Request({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/csv, application/x-ndjson", "application/x-ndjson"),  # liked equally: the one that is offered first
        ("text/csv, */*", "text/csv"),  # liked equally, but named
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", "application/x-ndjson"),
        ("application/json;q=0.2, */*;q=0.1", "application/json"),
        ("application/json;q=often, text/csv;q=0.1", "text/csv"),
        ("application/json;q=0.1, text/csv;q=0.5, application/json", "application/json"),  # its highest quality counts
        ("", "application/json"),
    ],
)
def test_the_type_that_the_client_prefers_is_chosen(accept: str, chosen: str) -> None:
    assert negotiated(request(accept=accept), OFFERED) == chosen


def test_without_the_header_the_first_type_is_chosen() -> None:
    assert negotiated(request(), OFFERED) == "application/json"


@pytest.mark.parametrize("accept", ["text/html", "video/mp4", "*/*;q=0", "application/json;q=0, text/*;q=0, a/b"])
def test_a_client_that_wants_none_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, application/x-ndjson, text/csv"):
        negotiated(request(accept=accept), OFFERED)


@pytest.mark.parametrize("prefer", ["respond-async", "wait=10, Respond-Async", "respond-async;x=1"])
def test_jobs_are_refused_until_they_are_built(prefer: str) -> None:
    with pytest.raises(InvalidParameter):
        negotiated(request(prefer=prefer), OFFERED)
    assert negotiated(request(prefer="return=minimal"), OFFERED) == "application/json"


@pytest.mark.parametrize("route", ["/analyze/frame", "/analyze/video"])
@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?max_faces=1&max_faces=2", {}, 422, "invalid_parameter"),
        ("", {"Idempotency-Key": "k"}, 422, "invalid_parameter"),
        ("", {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ("", {"Accept": "application/json;q=0"}, 406, "not_acceptable"),
    ],
)
def test_nothing_is_ignored(
    client: TestClient, route: str, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = client.post(route + query, files={"file": png(100)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_without_an_encoding_may_say_so(client: TestClient) -> None:
    headers = {"Content-Encoding": "identity"}
    assert client.post("/analyze/frame", files={"file": png(100)}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz/", "/analyze/frame/"])
def test_a_trailing_slash_is_another_path_and_no_redirect(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/models", "/metrics"])
def test_operations_honour_a_refusal(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Accept": "*/*;q=0"}).status_code == 406
    assert client.get(path, headers={"Accept": "text/html"}).status_code == 200  # no refusal
    assert client.get(f"{path}?a=1&a=2").status_code == 422


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_metrics_have_the_version_that_is_asked_for(client: TestClient, accept: str, content_type: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"] == content_type
    assert answer.text.endswith("# EOF\n") == content_type.startswith("application/openmetrics-text")
