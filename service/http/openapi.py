"""The parts of the OpenAPI document that routes' signatures cannot express: bodies, headers, errors and API keys."""

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from service.errors import Unauthorized
from service.http import examples
from service.output.schemas import JobStatus, Problem

Document: TypeAlias = dict[str, Any]
Examples: TypeAlias = Mapping[tuple[str, str], Mapping[str, Any]]

_WHOLE_SECONDS = {"type": "integer", "minimum": 1}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "An id for the request, of 1 to 64 letters, digits, dots, dashes and underscores. It is echoed; "
    "without a valid one the service makes one.",
    "schema": {"type": "string"},
}
_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Time limit for the answer in milliseconds, if it is shorter than the service's own. It is also the "
    "longest time that the request waits for its turn, instead of AFFECT_MAX_WAIT_S or AFFECT_MAX_VIDEO_WAIT_S.",
    "schema": {"type": "integer", "minimum": 1},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` makes the upload a job; refused with 422 where the service keeps no jobs.",
    "schema": {"type": "string", "enum": ["respond-async"]},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "With `Prefer: respond-async` only: a name for this request, under which it makes one job however "
    "often it is sent. With another upload or other options it is refused with 409.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_SERVER_TIMING = {
    "description": "`dur` of each stage in milliseconds: `timings_ms` of a document, or the times up to the first "
    "object of a stream.",
    "required": True,
    "schema": {"type": "string", "examples": ["decode;dur=6.1, total;dur=33.0"]},
}


def timed(content: Document | None = None) -> dict[int | str, Document]:
    """Describe a successful answer with the header Server-Timing; `content` has its media types beside JSON."""
    return {200: {"headers": {"Server-Timing": _SERVER_TIMING}} | ({"content": content} if content else {})}


def streamed() -> Document:
    """Describe the media types that answer a video frame by frame."""
    line = "One JSON object a line: first `video`, then `frame` and `progress`, last `summary` or `error`."
    table = "A header, then a row for each face in each frame; a frame without faces is one row with empty cells."
    return {
        "application/x-ndjson": {"schema": {"type": "string", "description": line}},
        "text/csv": {"schema": {"type": "string", "description": table}},
    }


def annotated() -> Document:
    """Describe the media types of annotated videos."""
    pictures = (
        "The video with boxes, ids, expressions, valence and arousal, and active units, or with all faces hidden."
    )
    schema = {"type": "string", "format": "binary", "description": pictures}
    return {"video/mp4": {"schema": schema}, "video/webm": {"schema": schema}}


def accepted() -> dict[int | str, Document]:
    """Describe the answer to an upload that has become a job."""
    headers = {
        "Location": {"description": "The job.", "required": True, "schema": {"type": "string"}},
        "Preference-Applied": {"required": True, "schema": {"type": "string", "const": "respond-async"}},
    }
    return {202: {"model": JobStatus, "description": "Accepted as a job, which is on disk", "headers": headers}}


def result_types() -> dict[int | str, Document]:
    """Describe the result of a job, which has one of the media types that an answer may have."""
    document = {"application/json": {"schema": _reference("schemas", "VideoResponse")}}
    content = document | streamed() | annotated()
    part = {name: {"schema": {"type": "string", "format": "binary"}} for name in content}
    return {200: {"content": content}, 206: {"description": "The bytes that `Range` names", "content": part}}


def problems(*statuses: int) -> dict[int | str, Document]:
    """Describe the errors that a route may answer with, by status."""
    described: dict[int | str, Document] = {}
    for status in statuses:
        described[status] = {"content": {"application/problem+json": {"schema": _reference("schemas", "Problem")}}}
        if status == 429:
            described[status]["headers"] = {"Retry-After": {"required": True, "schema": _WHOLE_SECONDS}}
    return described


def upload(*media_types: str, baseline: str | None = None, jobs: bool = False) -> Document:
    """Describe a request with one file: as the field `file` of a form, or as the raw body.

    `baseline` describes a second file of a form, which is optional; None where there is none. `jobs`: whether the
    client may prefer a job.
    """
    binary = {"type": "string", "format": "binary", "minLength": 1}
    files: Document = {"file": binary}
    if baseline is not None:
        files["baseline"] = binary | {"description": baseline}
    form = {"type": "object", "required": ["file"], "properties": files, "additionalProperties": False}
    encoding = {name: {"contentType": ", ".join(media_types)} for name in files}
    content = {"multipart/form-data": {"schema": form, "encoding": encoding}}
    return {
        "parameters": [_TIMEOUT, *([_PREFER, _IDEMPOTENCY_KEY] if jobs else [])],
        "requestBody": {"required": True, "content": content | {name: {"schema": binary} for name in media_types}},
    }


def complete(document: Document, open_routes: Collection[str] | None) -> None:
    """Add to the framework's document what holds for all routes.

    `open_routes` are those that require no key; None if no route requires one.
    """
    components = document["components"]
    components["schemas"]["Problem"] = Problem.model_json_schema()
    components["parameters"] = {"RequestId": _REQUEST_ID}
    components["headers"] = {
        "RequestId": {
            "description": "The request's id, or one that the service made.",
            "required": True,
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        }
    }
    if open_routes is not None:
        components["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    answers = examples.answers()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if open_routes is not None:
                _ask_for_key(operation, path in open_routes)
            operation.setdefault("parameters", []).append(_reference("parameters", "RequestId"))
            for status, response in operation["responses"].items():
                response.setdefault("headers", {})["X-Request-ID"] = _reference("headers", "RequestId")
                _illustrate(response, path, status, answers)


def _illustrate(response: Document, path: str, status: str, answers: Examples) -> None:
    """Add examples to a response: of a success one for each media type, of an error one for each of its codes."""
    for media_type, content in response.get("content", {}).items():
        if media_type == "application/problem+json":
            content["examples"] = examples.errors(path, status)
        elif media_type in (known := answers.get((path, status), {})):
            content["example"] = known[media_type]


def _ask_for_key(operation: Document, is_open: bool) -> None:
    if is_open:
        operation["security"] = []
        return
    [described] = problems(Unauthorized.status).values()
    challenge = {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}}
    operation["responses"]["401"] = {"description": Unauthorized.title, "headers": challenge, **described}


def _reference(kind: str, name: str) -> Mapping[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
