"""Live analysis: pictures go to the service as they come, and answers come back as they are made."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

from affect_client.closeable import Closeable
from affect_client.connection import NONSENSE, Connection, silence, understanding
from affect_client.errors import AffectError, needing, problem_error
from affect_client.faces import Face, Frame
from affect_client.results import Model

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

OPEN_S = 10.0
"""Seconds in which a connection must be open."""

CLOSE_S = 2.0
"""Seconds in which the service must agree to the end of a connection, which is broken then."""

_CLOSE_CODES = {1009: "upload_too_large", 1012: "draining", 1013: "overloaded", 4401: "unauthorized", 4408: "timeout"}
"""Codes of errors by the numbers with which the service closes a connection."""


@dataclass(frozen=True)
class LiveAnswer:
    """The answer to a picture."""

    frame: int
    """Index among the pictures that were sent, from 0."""
    skipped: int
    """Pictures between this one and the one answered before it: the service takes the newest."""
    sent_s: float
    """When the picture was sent, in seconds of the stream's clock (`time.monotonic`)."""
    time_s: float | None
    """When it came to the service, in seconds since the connection began; None for an error."""
    faces: tuple[Face, ...]
    """The largest first, with ids that hold for the connection."""
    error: AffectError | None
    """The problem of a picture that could not be analysed; the next one may be."""

    @property
    def as_frame(self) -> Frame:
        """The answer as a frame of a video, as tables show it. Raises the error where it is one."""
        if self.error is not None or self.time_s is None:
            raise self.error or ValueError("the answer has no time")
        return Frame(self.time_s, self.frame, self.faces)


class LiveStream(Closeable, Iterator[LiveAnswer]):
    """The answers to pictures that a thread sends meanwhile; leaving the `with` block ends the connection.

    with affect.live(pictures) as answers:
        for answer in answers:
            print(answer.frame, [face.valence for face in answer.faces])

    Pictures are sent at the pace at which they come. The answers end after the one to the last picture. Iterating
    raises AffectError where the service ends the connection, and what the pictures raise.
    """

    def __init__(
        self,
        connection: Connection,
        pictures: Iterable[bytes],
        options: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the connection, and wait until the service is ready. Raises AffectError and MissingExtra.

        Args:
            connection: names the service and the key.
            pictures: files of pictures, such as JPEG.
            options: parameters of GET /live.
            clock: gives seconds, for `LiveAnswer.sent_s`.
        """
        self._pictures = pictures
        self._clock = clock
        self._timeout_s = connection.timeout_s
        self._stack = ExitStack()
        self._socket = _opened(connection, options, self._stack)
        self._lock = threading.Lock()
        self._sent_s: dict[int, float] = {}
        """When the pictures were sent that have no answer yet."""
        self._answered = -1
        """Index of the last picture that was answered."""
        self._last: int | None = None
        """Index of the last picture, once there are no more."""
        self._failure: Exception | None = None
        self._ended = False
        try:
            ready = self._message()
            with understanding():
                if ready["type"] != "ready":
                    raise ValueError(f"the first message is {ready['type']}")
                self.request_id: str = ready["request_id"]
                self.model = Model.of(ready["model"])
                self.limits: Mapping[str, float] = ready["limits"]
        except BaseException:
            self._stack.close()
            raise
        self._sender = threading.Thread(target=self._send_all, daemon=True)
        self._sender.start()

    def __next__(self) -> LiveAnswer:
        while not self._ended:
            message = self._message_or_end()
            if message is None:
                break
            with understanding():
                answer = self._understood(message)
            if answer is not None:
                return answer
        if self._failure is not None:
            raise self._failure
        raise StopIteration

    def close(self) -> None:
        """End the connection; pictures that have no answer get none, and no further one is taken."""
        self._ended = True
        self._stack.close()
        self._sender.join(CLOSE_S)  # the pictures are in its hands until it has learned of the end

    def _message_or_end(self) -> dict[str, Any] | None:
        """Return the next message; None where this side has ended the connection. Raises AffectError."""
        try:
            return self._message()
        except AffectError:
            with self._lock:
                if self._ended:
                    return None
            raise

    def _message(self) -> dict[str, Any]:
        """Return the next message. Raises AffectError."""
        from websockets.exceptions import ConnectionClosed

        try:
            text = self._socket.recv(timeout=self._timeout_s)
        except TimeoutError as error:
            raise silence() from error
        except ConnectionClosed as error:
            code = _CLOSE_CODES.get(error.rcvd.code if error.rcvd else 0, "connection_lost")
            reason = error.rcvd.reason if error.rcvd else ""
            raise AffectError(f"the live connection ended: {reason or 'no reason was given'}", code) from error
        with understanding():
            return dict(json.loads(text))

    def _understood(self, message: Mapping[str, Any]) -> LiveAnswer | None:
        """Return the answer of a message; None for one that only announces that pictures will be skipped."""
        frame = message["frame"]
        sent_s = self._note_answered(frame)
        match message["type"]:
            case "frame":
                faces = tuple(Face.of(face) for face in message["faces"])
                return LiveAnswer(frame, message["skipped"], sent_s, message["time_s"], faces, None)
            case "error":
                return LiveAnswer(frame, message["skipped"], sent_s, None, (), problem_error(message))
        return None

    def _note_answered(self, frame: int) -> float:
        """Return when a picture was sent, and end the connection if it was the last one."""
        with self._lock:
            sent_s = self._sent_s[frame]
            self._sent_s = {index: each for index, each in self._sent_s.items() if index > frame}
            self._answered = frame
            self._end_if_all_is_answered()
        return sent_s

    def _end_if_all_is_answered(self) -> None:
        if self._last is not None and self._answered >= self._last:
            self._ended = True
            self._socket.close()

    def _send_all(self) -> None:
        """Send the pictures, in a thread of its own."""
        from websockets.exceptions import ConnectionClosed

        count = 0
        try:
            for picture in self._pictures:
                with self._lock:
                    self._sent_s[count] = self._clock()
                self._socket.send(picture)
                count += 1
        except ConnectionClosed:
            return  # which the other thread learns, too
        except Exception as error:
            with self._lock:
                self._failure = error
                self._ended = True
            self._socket.close()
            return
        with self._lock:
            self._last = count - 1
            self._end_if_all_is_answered()


def _opened(connection: Connection, options: Mapping[str, Any], stack: ExitStack) -> "ClientConnection":
    """Return an open WebSocket, which the stack closes. Raises AffectError and MissingExtra."""
    with needing("watch"):
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

    address = httpx2.URL(connection.url)
    params = {name: value for name, value in options.items() if value is not None}
    target = address.copy_with(
        scheme={"http": "ws", "https": "wss"}[address.scheme], path=address.path.rstrip("/") + "/live", params=params
    )
    try:
        return stack.enter_context(
            connect(
                str(target),
                additional_headers=connection.headers,
                compression=None,  # pictures are compressed
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                proxy=True if connection.uses_proxies else None,
            )
        )
    except InvalidStatus as error:
        raise _refused(error.response.status_code, error.response.body, connection.url) from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise AffectError(f"nobody answers at {connection.url}: {error}", "unreachable") from error


def _refused(status: int, body: bytes | bytearray | None, url: str) -> AffectError:
    try:
        return problem_error(json.loads(body or b""))
    except NONSENSE:
        return AffectError(
            f"{url} answered with status {status} and opened no live connection", "unexpected_answer", status
        )
