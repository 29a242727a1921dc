"""ASGI middleware around every request: its id, its metrics and log line, HEAD, and the check of its API key."""

import re
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Unauthorized
from service.http.problems import answer
from service.http.security import ApiKeys
from service.telemetry import Telemetry, trace_id

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNMATCHED = "unmatched"
_HEAD = "is_head"

logger = structlog.get_logger("service.access")


class RequestContext:
    """Gives each request an id (the client's if it is valid), counts and times it by route, and logs it once.

    An answer that begins before the request's body was received ends the connection: nobody is to read the rest.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._telemetry = telemetry
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] == "websocket":
            await self._handle_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        route = self._template(scope)
        started = time.perf_counter()
        status = 500
        received = not _announces_body(scope)
        scope.setdefault("state", {}).update(request_id=request_id, route=route, routes=self._routes)

        async def receive_noting() -> Message:
            nonlocal received
            message = await receive()
            received = received or not message.get("more_body", False)
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if not received:
                    headers["Connection"] = "close"
            await send(message)

        telemetry = self._telemetry
        with _logged_with(request_id):
            try:
                with telemetry.in_flight.labels(route).track_inprogress():
                    await self._app(scope, receive_noting, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                telemetry.requests.labels(route, status).inc()
                telemetry.request_seconds.labels(route).observe(seconds)
                reason = scope["state"].get("error_code")
                if reason is not None:
                    telemetry.rejected.labels(reason).inc()
                    if status < 400:
                        telemetry.cut_off.labels(route, reason).inc()
                logger.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))

    async def _handle_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a WebSocket, whose status is 101 once it is open; its length is no request's time."""
        request_id = _request_id(scope)
        route = self._template(scope)
        started = time.perf_counter()
        status = 403
        code = None
        scope.setdefault("state", {}).update(request_id=request_id, route=route)

        async def send_with_id(message: Message) -> None:
            nonlocal status, code
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                status = message.get("status", 101)
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                self._telemetry.requests.labels(route, status).inc()
            if message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        with _logged_with(request_id):
            try:
                with self._telemetry.in_flight.labels(route).track_inprogress():
                    await self._app(scope, receive, send_with_id)
            finally:
                seconds = round(time.perf_counter() - started, 4)
                if (reason := scope["state"].get("error_code")) is not None:
                    self._telemetry.rejected.labels(reason).inc()
                logger.info("websocket", route=route, status=status, code=code, seconds=seconds)

    def _template(self, scope: Scope) -> str:
        """Return the path template of the matching route, so that metric labels stay bounded."""
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return str(getattr(route, "path", UNMATCHED))
        return UNMATCHED


class HeadAsGet:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2), so that routes need not know it.

    Where sending a body is work, an answer asks `is_head` whether anybody is to read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope.setdefault("state", {})[_HEAD] = True
        await self._app({**scope, "method": "GET"}, receive, send_head)


def is_head(scope: Scope) -> bool:
    """Return True for a request that HeadAsGet passes on as a GET."""
    return _HEAD in scope.get("state", {})


class RequireKey:
    """Refuses every request without a valid key before its body is read, except requests for the open routes.

    All other paths require a key, also those that do not exist and those that are added later. It belongs inside
    RequestContext, which finds the route.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, open_routes: Collection[str], asking_routes: Collection[str] = ()
    ) -> None:
        """`asking_routes`: WebSockets that ask for the key themselves where the handshake has none."""
        self._app = app
        self._asking_routes = asking_routes
        self._keys = keys
        self._open_routes = open_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection; a WebSocket without a key is refused before it opens."""
        if scope["type"] == "lifespan" or self._may_enter(scope):
            await self._app(scope, receive, send)
        else:
            await (await answer(HTTPConnection(scope), Unauthorized()))(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        state = scope.setdefault("state", {})
        caller = self._keys.caller(scope["headers"])
        if caller is not None:
            state["caller"] = caller
        if caller is not None or state.get("route") in self._open_routes:
            return True
        asks = scope["type"] == "websocket" and state.get("route") in self._asking_routes
        return asks and not self._keys.offered(scope["headers"])


def _logged_with(request_id: str) -> AbstractContextManager[object]:
    """Add the ids of a request to the lines that are logged in the block."""
    traced = trace_id()
    return structlog.contextvars.bound_contextvars(request_id=request_id, **({"trace_id": traced} if traced else {}))


def _request_id(scope: Scope) -> str:
    offered = Headers(scope=scope).get("x-request-id", "")
    return offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex


def _announces_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
