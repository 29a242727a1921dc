"""Everything that can go wrong for a client, as one tree, and its rendering as RFC 9457 problem documents.

ServiceError
├── MalformedRequest       400
├── NotFound               404
├── MethodNotAllowed       405
├── NotAcceptable          406
├── UploadTooLarge         413  names its limit
├── TooManyPixels          413  names its limit
├── VideoTooLong           413  names its limit
├── UnsupportedMediaType   415
├── UndecodableMedia       422
├── NoVideoFrames          422
├── InvalidParameter       422
├── Overloaded             429  with Retry-After
├── InternalError          500
├── NotReady               503
├── Draining               503
└── DeadlineExceeded       504
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, TypedDict

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class Limit(TypedDict):
    """A limit that was broken: the variable that sets it, and its value in the unit of the variable's name."""

    name: str
    value: float


class ServiceError(Exception):
    """Base of the tree. `status`, `code` and `title` belong to the class; `detail` is a sentence for the client."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, *, limit: Limit | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.headers = dict(headers or {})


class MalformedRequest(ServiceError):
    """The body is not what the route reads: broken multipart, no `file` field, more than one file."""

    status, code, title = 400, "malformed_request", "Malformed request"


class NotFound(ServiceError):
    """Nothing lives at this path."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    """The path exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptable(ServiceError):
    """None of the media types that the client accepts is offered."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class UploadTooLarge(ServiceError):
    """The body has more bytes than the limit."""

    status, code, title = 413, "upload_too_large", "Upload too large"


class TooManyPixels(ServiceError):
    """A frame has more pixels than the limit."""

    status, code, title = 413, "too_many_pixels", "Too many pixels"


class VideoTooLong(ServiceError):
    """The requested part of a video has more seconds, or more frames to analyse, than the limit."""

    status, code, title = 413, "video_too_long", "Video too long"


class UnsupportedMediaType(ServiceError):
    """The content, whatever its name, is of no format that the route reads."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UndecodableMedia(ServiceError):
    """The format is a known one, but the file is damaged or incomplete."""

    status, code, title = 422, "undecodable_media", "Undecodable media"


class NoVideoFrames(ServiceError):
    """The container is readable and has no picture in it."""

    status, code, title = 422, "no_video_frames", "No video frames"


class InvalidParameter(ServiceError):
    """A parameter is missing, unknown or out of range; the detail begins with its name."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class Overloaded(ServiceError):
    """The queue is full. `retry_after_s` is rounded up to whole seconds, at least one."""

    status, code, title = 429, "overloaded", "Overloaded"

    def __init__(self, detail: str, *, retry_after_s: float, limit: Limit | None = None) -> None:
        super().__init__(detail, limit=limit, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class InternalError(ServiceError):
    """A fault of ours; the detail says nothing about it, the log does."""

    status, code, title = 500, "internal_error", "Internal error"

    def __init__(self, detail: str = "the service failed; the request id finds the cause in its log") -> None:
        super().__init__(detail)


class NotReady(ServiceError):
    """The service cannot predict now."""

    status, code, title = 503, "not_ready", "Not ready"


class Draining(ServiceError):
    """The service is shutting down and takes no new work."""

    status, code, title = 503, "draining", "Draining"


class DeadlineExceeded(ServiceError):
    """The request's time ran out before its answer."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


_BY_STATUS: Mapping[int, type[ServiceError]] = {
    error.status: error
    for error in (MalformedRequest, NotFound, MethodNotAllowed, NotAcceptable, UploadTooLarge, UnsupportedMediaType)
}


def problem(error: ServiceError, request_id: str) -> dict[str, object]:
    """The RFC 9457 document of an error; `limit` is present only where one was broken."""
    document: dict[str, object] = {
        "type": f"urn:affect:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.limit is not None:
        document["limit"] = dict(error.limit)
    return document


def problem_response(error: ServiceError, request_id: str) -> JSONResponse:
    """The same document as a response of type application/problem+json, with the error's status and headers."""
    return JSONResponse(problem(error, request_id), error.status, error.headers, "application/problem+json")


def install_handlers(app: FastAPI) -> None:
    """Answer whatever is raised with a problem document; its request id is `request.state.request_id`, or empty."""
    # Under `Exception` comes what middleware itself breaks; Starlette raises it again, and the server logs it.
    for kind in (ServiceError, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _answer)
    # Innermost, whenever this is called: the middleware around it sees a crash as an ordinary answer of status 500.
    app.user_middleware.append(Middleware(_CrashGuard))


class _CrashGuard:
    """Answers what no handler is for, and logs it, once. An `Exception` handler of Starlette's would raise it again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; a crash after the answer has begun is left to the server, which logs it and breaks the connection."""
        started = scope["type"] != "http"

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if started:
                raise
            request = Request(scope)
            logger.error("request %s failed", _request_id(request), exc_info=error)
            await (await _answer(request, error))(scope, receive, send)


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def _answer(request: Request, error: Exception) -> JSONResponse:
    answer = _as_service_error(error)
    request.state.error_code = answer.code  # for the metrics
    return problem_response(answer, _request_id(request))


def _as_service_error(error: Exception) -> ServiceError:
    """The place in the tree of what frameworks raise themselves; whatever else comes is our fault."""
    match error:
        case ServiceError():
            return error
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = _BY_STATUS.get(error.status_code, MalformedRequest)
            return kind(error.detail, headers=error.headers)
        case RequestValidationError():
            found = error.errors()
            # What was sent is not repeated: it may be a file.
            detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {item['msg']}" for item in found)
            in_body = any(item["loc"][0] == "body" for item in found)
            return MalformedRequest(detail) if in_body else InvalidParameter(detail)
        case ClientDisconnect():
            return MalformedRequest("the client left before its body was complete")
    return InternalError()
