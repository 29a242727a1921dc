"""ASGI middleware around every request: its id, its metrics and log line, and the check of its API key."""

import re
import time
import uuid
from collections.abc import Collection, Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Unauthorized
from service.http.problems import answer
from service.http.security import ApiKeys
from service.telemetry import Telemetry, trace_id

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNMATCHED = "unmatched"

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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        route = self._template(scope)
        started = time.perf_counter()
        status = 500
        received = not _announces_body(scope)
        scope.setdefault("state", {}).update(request_id=request_id, route=route)

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
        ids = {"request_id": request_id} | ({"trace_id": traced} if (traced := trace_id()) else {})
        with structlog.contextvars.bound_contextvars(**ids):
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

    def _template(self, scope: Scope) -> str:
        """Return the path template of the matching route, so that metric labels stay bounded."""
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return str(getattr(route, "path", UNMATCHED))
        return UNMATCHED


class RequireKey:
    """Refuses every request without a valid key before its body is read, except requests for the open routes.

    All other paths require a key, also those that do not exist and those that are added later. It belongs inside
    RequestContext, which finds the route.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, open_routes: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._open_routes = open_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection; a WebSocket without a key is closed before it opens."""
        if scope["type"] == "lifespan" or self._may_enter(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await (await answer(Request(scope), Unauthorized()))(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "unauthorized"})

    def _may_enter(self, scope: Scope) -> bool:
        return self._keys.admit(scope["headers"]) or scope.get("state", {}).get("route") in self._open_routes


def _request_id(scope: Scope) -> str:
    offered = Headers(scope=scope).get("x-request-id", "")
    return offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex


def _announces_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
