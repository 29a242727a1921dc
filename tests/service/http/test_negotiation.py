"""Which media type answers an Accept header (RFC 9110, section 12.5.1)."""

import pytest
from fastapi import Request

from service.errors import InvalidParameter, NotAcceptable
from service.http.negotiation import negotiated

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
