"""Connections of clients: how many there may be, how long a request's head may take, and how a refused body ends.

A connection becomes a WebSocket in one case only; see websockets.py.
"""

import asyncio
import logging
import math
import resource
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import Limit, MalformedRequest, NotReady, ServiceError
from service.http import websockets
from service.http.problems import problem_response
from service.settings import variable

DESCRIPTORS_KEPT = 192
"""Descriptors that connections leave to everything else: those that are being refused, decoders, logs, models."""

DESCRIPTORS_EACH = 2
"""Descriptors that a connection may need: its socket, and the file of its upload."""

REFUSED_AT_ONCE = 64
"""Connections beyond the limit that get an answer before they are closed; still further ones are broken at once."""

logger = logging.getLogger(__name__)


class _EnoughPipelined(Exception):
    """A connection takes no further request."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of what a client may keep busy."""

    most: int = 1000
    """Largest number of connections; for a further one the longest idle one is closed, or it gets 503."""
    head_s: float = 10.0
    """Longest time from the beginning of a connection, or of a further request on it, to the end of its headers."""
    head_bytes: int = 64 * 1024
    """Most bytes in a row that belong to no body: headers, trailers, and what stands around the chunks of a body."""
    pipelined: int = 16
    """Most requests that wait on a connection behind the one that is answered. After them the connection ends."""
    linger_s: float = 2.0
    """Longest time in which the rest of a body is still read that the answer did not wait for."""
    linger_bytes: int = 16 * 1024 * 1024
    """Most bytes of that rest. A client that sends more may find the connection broken before it reads its answer."""
    flush_s: float = 60.0
    """Time after which a connection that is closing is broken if its client has taken nothing more of the answer."""


def most_connections(wanted: int) -> int:
    """Return how many connections there may be: as many as wanted, if the process can have descriptors for them.

    Raises the process's limit on descriptors as far as the system lets it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (hard - DESCRIPTORS_KEPT) // DESCRIPTORS_EACH))


def server_options(limits: ConnectionLimits, message_bytes: int, on_refused: Callable[[], None]) -> dict[str, Any]:
    """Return the options of uvicorn for connections; `message_bytes` bounds a message of a WebSocket.

    `on_refused` is called for each connection that is beyond the limit.
    """
    return {"http": partial(Connection, limits=limits, on_refused=on_refused)} | websockets.options(message_bytes)


class Connection(HttpToolsProtocol):
    """A client's connection, which ends where it keeps the service busy for nothing."""

    def __init__(self, *args: Any, limits: ConnectionLimits, on_refused: Callable[[], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._on_refused = on_refused
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._begins_websocket = False
        self._idle_bytes = 0
        self._full = False
        """True once requests have come that are not taken; those before are still answered."""
        self.lingering = False
        """True once all is answered, while the rest of a body is read."""
        self._bytes_left = limits.linger_bytes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._expect_head()
        beyond = self._beyond()
        if beyond > 0:
            logger.warning("there are more than %d connections", self._limits.most)
            self._on_refused()
        if beyond > REFUSED_AT_ONCE:
            transport.abort()
        elif beyond > 0:
            limit = Limit(name=variable("max_connections"), value=self._limits.most)
            self._refuse(NotReady("there are too many connections", limit=limit, headers={"Retry-After": "1"}))

    def _beyond(self) -> int:
        """Return how many connections are beyond the limit, once the one that has been idle longest is closed.

        So nobody keeps others out, and probes, by connections on which nothing is asked for.
        """
        if len(self.connections) <= self._limits.most:
            return 0
        counted: list[Any] = [each for each in self.connections if not each.transport.is_closing()]
        beyond = len(counted) - self._limits.most
        # Live connections are among them, which are never idle in this sense.
        idle = [each for each in counted if isinstance(each, Connection) and each.timeout_keep_alive_task is not None]
        if beyond > 0 and idle:
            min(idle, key=_idle_until).shutdown()
            beyond -= 1
        return beyond

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_timer()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """See asyncio.Protocol; what is left of an answer is sent, and then the connection closes."""
        super().eof_received()
        self._expect_flush()

    def shutdown(self) -> None:
        """See HttpToolsProtocol."""
        super().shutdown()
        self._expect_flush()

    def timeout_keep_alive_handler(self) -> None:
        """See HttpToolsProtocol."""
        super().timeout_keep_alive_handler()
        self._expect_flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.lingering:
            self._discard(data)
            return
        if self._full:
            self.flow.pause_reading()
            return
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes <= self._limits.head_bytes or self.lingering or self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(MalformedRequest("the headers are too large"))
        else:
            self.transport.abort()

    def _discard(self, data: bytes) -> None:
        """Read on in a body whose request has been answered, to its end if that is near."""
        self._bytes_left -= len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._bytes_left = -1
        if self._bytes_left < 0:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP/1.1, and close the connection."""
        if not self.lingering and not self._full:
            self._refuse(MalformedRequest("this is no valid HTTP request"))

    def _should_upgrade(self) -> bool:
        """Tell uvicorn whether the request begins a WebSocket."""
        return self._begins_websocket

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; one whose handshake is not understood a second time is broken."""
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if not isinstance(protocol, websockets.WebSocketConnection) or not protocol.handshake_initiated:
            self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """Pass over the offer of another protocol, as HTTP has it (RFC 9110, section 7.8); it is worth no line."""

    def on_message_begin(self) -> None:
        """See httptools."""
        if self.lingering:
            return
        super().on_message_begin()
        self._in_head = True
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools; trailers of a chunked body mean nothing here."""
        if self._in_head and not self.lingering:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self.lingering:
            return
        waits = self.cycle is not None and not self.cycle.response_complete
        if waits and len(self.pipeline) >= self._limits.pipelined:
            self._full = True
            self._stop_timer()
            raise _EnoughPipelined  # which ends the parsing
        version = self.parser.get_http_version()
        self._begins_websocket = not waits and websockets.begins_websocket(
            self.parser.get_method(), version, self.url, self.headers
        )
        super().on_headers_complete()  # which fails for a target that is none: then there is no cycle
        self._in_head = False
        self._idle_bytes = 0
        self._stop_timer()
        if self._begins_websocket:
            return
        self.cycle.transport = _ClosedSoftly(self)  # type: ignore[assignment]  # it has what a cycle uses

    def on_response_complete(self) -> None:
        """See HttpToolsProtocol."""
        super().on_response_complete()
        if self._full and self.cycle.response_complete:
            self.transport.close()
            self._expect_flush()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._idle_bytes = 0
        if not self.lingering:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self.lingering:
            self.transport.close()
        else:
            super().on_message_complete()

    def end(self) -> None:
        """Close the connection once what was written is sent; the rest of a body is read for a while.

        If it were not read at all, the system would break the connection, and the client might not see its answer.
        """
        if self.lingering or self.transport.is_closing():
            return
        if not self._in_head and not self.cycle.more_body:
            self.transport.close()
            self._expect_flush()
            return
        self.lingering = True
        self.pipeline.clear()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._stop_timer()
        self._timer = self.loop.call_later(self._limits.linger_s, self.transport.abort)

    def _refuse(self, error: ServiceError) -> None:
        """Answer with a problem instead of handling a request, and close the connection."""
        response = problem_response(error, uuid.uuid4().hex)
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = [STATUS_LINE[error.status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
        self.transport.write(b"".join(lines) + bytes(response.body))
        self.end()

    def _expect_head(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self._limits.head_s, self.transport.abort)

    def _expect_flush(self) -> None:
        """Break the connection, once it closes, if its client takes nothing more: closing would wait without an end."""
        if self.lingering:
            return  # that has a limit already
        self._stop_timer()
        left = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self._limits.flush_s, self._look_at_flush, left)

    def _look_at_flush(self, left_before: int) -> None:
        if not self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() < left_before:
            self._expect_flush()
        else:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _idle_until(connection: Connection) -> float:
    """Return when an idle connection would be closed for that alone."""
    task = connection.timeout_keep_alive_task
    return math.inf if task is None else task.when()


class _ClosedSoftly:
    """The transport of a connection as an answer sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        if not self.is_closing():  # uvloop fails where the client has just broken the connection
            self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.lingering or self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.end()
