"""ServiceErrors, and whatever else a route raises, as RFC 9457 problem documents."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    InternalError,
    InvalidParameter,
    MalformedRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    ServiceError,
    UnsupportedMediaType,
    UploadTooLarge,
)

logger = logging.getLogger(__name__)

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
        app.add_exception_handler(kind, answer)
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
            await (await answer(request, error))(scope, receive, send)


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Return the response to whatever was raised."""
    return problem_response(classified(request, error), _request_id(request))


def classified(request: Request, error: Exception) -> ServiceError:
    """Return the service's error for whatever was raised; its code is left for the metrics in the request's state."""
    found = _as_service_error(error)
    request.state.error_code = found.code
    return found


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
            detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {_message(item)}" for item in found)
            in_body = any(item["loc"][0] == "body" for item in found)
            return MalformedRequest(detail) if in_body else InvalidParameter(detail)
        case ClientDisconnect():
            return MalformedRequest("the client left before its body was complete")
    return InternalError()


def _message(item: Mapping[str, str]) -> str:
    """A validation error in words for a client."""
    return "no such parameter here" if item["type"] == "extra_forbidden" else item["msg"]
