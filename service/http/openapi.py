"""The parts of the OpenAPI document that routes' signatures cannot express: bodies, headers, errors and API keys."""

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from service.errors import Unauthorized
from service.output.schemas import Problem

Document: TypeAlias = dict[str, Any]

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


def problems(*statuses: int) -> dict[int | str, Document]:
    """Describe the errors that a route may answer with, by status."""
    described: dict[int | str, Document] = {}
    for status in statuses:
        described[status] = {"content": {"application/problem+json": {"schema": _reference("schemas", "Problem")}}}
        if status == 429:
            described[status]["headers"] = {"Retry-After": {"required": True, "schema": _WHOLE_SECONDS}}
    return described


def upload(*media_types: str, baseline: str | None = None) -> Document:
    """Describe a request with one file: as the field `file` of a form, or as the raw body.

    `baseline` describes a second file of a form, which is optional; None where there is none.
    """
    binary = {"type": "string", "format": "binary", "minLength": 1}
    files: Document = {"file": binary}
    if baseline is not None:
        files["baseline"] = binary | {"description": baseline}
    form = {"type": "object", "required": ["file"], "properties": files, "additionalProperties": False}
    encoding = {name: {"contentType": ", ".join(media_types)} for name in files}
    content = {"multipart/form-data": {"schema": form, "encoding": encoding}}
    return {
        "parameters": [_TIMEOUT],
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
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if open_routes is not None:
                _ask_for_key(operation, path in open_routes)
            operation.setdefault("parameters", []).append(_reference("parameters", "RequestId"))
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-ID"] = _reference("headers", "RequestId")


def _ask_for_key(operation: Document, is_open: bool) -> None:
    if is_open:
        operation["security"] = []
        return
    [described] = problems(Unauthorized.status).values()
    challenge = {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}}
    operation["responses"]["401"] = {"description": Unauthorized.title, "headers": challenge, **described}


def _reference(kind: str, name: str) -> Mapping[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
