"""The WebSocket side of a client's connection, with bounds on what a client may keep busy."""

import asyncio
import logging
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

PATH = "/live"
"""The one path at which a connection may become a WebSocket."""

PING_S = 20.0
"""Seconds between two pings, and in which each must be answered; else the client is gone."""

MOST_FRAGMENTS = 1024
"""Most parts of one message; more, even of no bytes, are no picture."""

MOST_CONTROLS = 1024
"""Most pings and pongs of a client between two messages; more keep the service busy, and nobody alive."""

TURN_BYTES = 16 * 1024
"""Bytes of a client that are read before others get their turn: they may hold thousands of frames."""

LINGER_S = 5.0
"""Seconds in which a client must take the rest of what was sent, after the end; then the connection is broken."""

MOST_HEADERS = 128
MOST_LINE_BYTES = 8000
"""Most headers, and bytes of one, that the handshake may have; what is read of the handshake a second time is short."""

_MESSAGES = frozenset({"websocket.accept", "websocket.send", "websocket.close"})
"""What the application may send to a client that is there; refusals of a handshake are answers of HTTP."""

logger = logging.getLogger(__name__)

Headers = Sequence[tuple[bytes, bytes]]


def begins_websocket(method: bytes, http_version: str, target: bytes, headers: Headers) -> bool:
    """Return True for a complete opening handshake at PATH (RFC 6455, section 4.2.1); all else is ordinary HTTP.

    `headers` have names in lower case. What offers another protocol, or asks in another version, may be answered
    without it.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value.strip())
    if method != b"GET" or http_version != "1.1" or target.partition(b"?")[0] != PATH.encode():
        return False
    if len(headers) > MOST_HEADERS or any(len(name) + len(value) > MOST_LINE_BYTES for name, value in headers):
        return False
    if len(target) > MOST_LINE_BYTES or b"transfer-encoding" in values or any(values.get(b"content-length", ())):
        return False
    offers = [value.lower() for value in values.get(b"upgrade", ())]
    return offers == [b"websocket"] and values.get(b"sec-websocket-version") == [b"13"] and _is_key(values)


def _is_key(values: dict[bytes, list[bytes]]) -> bool:
    keys = values.get(b"sec-websocket-key", [])
    try:
        return len(keys) == 1 and len(b64decode(keys[0], validate=True)) == 16
    except NoBase64:
        return False


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A client's WebSocket, which ends where it keeps the service busy for nothing.

    Messages are read one at a time, when the application asks for the next; uvicorn and the settings bound their bytes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = logger
        self._unread = bytearray()
        """What has come and is not read yet; while there is any, the transport reads nothing."""
        self._reading: asyncio.Handle | None = None
        self._controls = 0
        """Pings and pongs since the last message."""
        self._breaking: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._unread.clear()
        if self._breaking is not None:
            self._breaking.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Tell the application that the server stops; it answers what it has begun, and closes with a reason."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.SERVICE_RESTART, "reason": ""})
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        reads = not self._unread
        self._unread += data
        if reads:
            self._read_part()

    def _read_part(self) -> None:
        self._reading = None
        size = TURN_BYTES if self.handshake_initiated else len(self._unread)
        part = bytes(self._unread[:size])
        del self._unread[:size]
        if part:
            super().data_received(part)
            self._read_on()

    def _read_on(self) -> None:
        """Read on, once nothing waits for the application: first what has come, in a later turn, then the transport."""
        if self.transport.is_closing():
            self._unread.clear()
            return
        waits = not self.queue.empty() and not self.close_sent
        if self._unread:
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()
            if not waits and self._reading is None:
                self._reading = self.loop.call_soon(self._read_part)
        elif self.read_paused and not waits:
            self.read_paused = False
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """Return the client's next message to the application."""
        message = await self.queue.get()
        self._read_on()
        return message

    async def send(self, message: Any) -> None:
        """Take a message of the application. Raises ClientDisconnected where the connection has ended meanwhile."""
        await self.writable.wait()
        if message["type"] in _MESSAGES and (self.close_sent or self.transport.is_closing()):
            self.handshake_complete = True  # as far as it can be
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # by a refusal, which uvicorn would otherwise log as an error

    def send_receive_event_to_app(self) -> None:
        """Hand over a message, which is complete."""
        self._controls = 0
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self._fail(CloseCode.INVALID_DATA, "a text is no UTF-8")
            return
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """Take in a part of a message; parts may be empty, so that a bound on bytes alone would not bound them."""
        if self.close_sent:
            return
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
            return
        self._fail(CloseCode.POLICY_VIOLATION, f"a message has more than {MOST_FRAGMENTS} parts")

    def handle_ping(self) -> None:
        """Answer a ping, unless the client reads nothing: answers would pile up, and not each ping needs one."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set() and not self.close_sent:
            self.transport.write(pong)
        self._count_control()

    def handle_pong(self, event: Frame) -> None:
        """Take in the answer to a ping, or one to none."""
        super().handle_pong(event)
        self._count_control()

    def _count_control(self) -> None:
        self._controls += 1
        if self._controls > MOST_CONTROLS:
            self._fail(CloseCode.POLICY_VIOLATION, f"there are more than {MOST_CONTROLS} pings without a message")

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Close the connection for what the client sends."""
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    async def run_asgi(self) -> None:
        """Run the application; a client that does not read on to the end does not keep its connection."""
        await super().run_asgi()
        self._breaking = self.loop.call_later(LINGER_S, self.transport.abort)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def options(message_bytes: int) -> dict[str, Any]:
    """Return the options of uvicorn for WebSockets; `message_bytes` bounds a message, beyond which it ends with 1009.

    Nothing is compressed: pictures are, and what a compressed message becomes is not known before.
    """
    return {
        "ws": WebSocketConnection,
        "ws_max_size": message_bytes,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": PING_S,
        "ws_per_message_deflate": False,
    }
