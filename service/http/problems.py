"""Exceptions as RFC 9457 problem documents: ServiceErrors, and whatever else a route raises."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    ClientGone,
    Draining,
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
    error.status: error for error in (MalformedRequest, NotFound, NotAcceptable, UploadTooLarge, UnsupportedMediaType)
}


def problem_response(error: ServiceError, request_id: str) -> JSONResponse:
    """Return an error's document as a response of type application/problem+json, with its status and headers."""
    return JSONResponse(error.document(request_id), error.status, error.headers, "application/problem+json")


def install_handlers(app: FastAPI) -> None:
    """Make an app answer every exception with a problem document.

    Its request id is `request.state.request_id`; `request.state.routes` are the app's, where routers hide them.
    """
    # `Exception` is for errors in middleware itself; Starlette raises them again, and the server logs them.
    kinds = (ServiceError, HTTPException, RequestValidationError, WebSocketRequestValidationError, ClientDisconnect)
    for kind in (*kinds, Exception):
        app.add_exception_handler(kind, answer)
    # It is innermost whenever this is called, so other middleware sees a crash as an ordinary answer of status 500.
    app.user_middleware.append(Middleware(_CrashGuard))


class _CrashGuard:
    """Logs and answers exceptions without a handler. Starlette's handler for `Exception` would raise them again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection. A crash after the answer has begun is left to the server, which disconnects."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        request = HTTPConnection(scope)
        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            # The server cancels what has outlasted the time to drain.
            if started:
                raise
            await (await answer(request, Draining("the service is shutting down")))(scope, receive, send)
        except Exception as error:
            if started:
                raise
            logger.error("request %s failed", _request_id(request), exc_info=error)
            await (await answer(request, error))(scope, receive, send)


def _request_id(request: HTTPConnection) -> str:
    return str(getattr(request.state, "request_id", ""))


async def answer(request: HTTPConnection, error: Exception) -> JSONResponse:
    """Return the response to an exception; a WebSocket may have one before it is open."""
    return problem_response(classified(request, error), _request_id(request))


def classified(request: HTTPConnection, error: Exception) -> ServiceError:
    """Return the ServiceError for an exception, and leave its code in the request's state for the metrics."""
    found = _as_service_error(request, error)
    request.state.error_code = found.code
    return found


def _as_service_error(request: HTTPConnection, error: Exception) -> ServiceError:
    """Return the ServiceError for an exception, also for one of the web framework; any other is an internal error."""
    match error:
        case ServiceError():
            return error
        case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED):
            methods = _methods(request)
            return MethodNotAllowed(f"this path takes {methods}", headers={"Allow": methods})
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = _BY_STATUS.get(error.status_code, MalformedRequest)
            return kind(error.detail, headers=error.headers)
        case RequestValidationError() | WebSocketRequestValidationError():
            found = error.errors()
            # The input is not repeated, since it may be a file.
            detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {_message(item)}" for item in found)
            in_body = any(item["loc"][0] == "body" for item in found)
            return MalformedRequest(detail) if in_body else InvalidParameter(detail)
        case ClientDisconnect():
            return ClientGone("the client left before its answer was complete")
    return InternalError()


def _methods(request: HTTPConnection) -> str:
    """Return the methods of a path, among them HEAD where GET is; the framework would name those of one route alone."""
    routes = getattr(request.state, "routes", request.app.routes)
    found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in found for method in getattr(route, "methods", None) or ()}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _message(item: Mapping[str, str]) -> str:
    """Return a sentence for the client about a validation error."""
    return "this route has no such parameter" if item["type"] == "extra_forbidden" else item["msg"]
