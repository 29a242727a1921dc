"""A live channel without networks: it follows the protocol, and a test decides what it answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.client.fake_service import MODEL, face

Handler: TypeAlias = Callable[[ServerConnection], None]

READY = {"type": "ready", "request_id": "r1", "model": MODEL, "limits": {"AFFECT_LIVE_FPS": 15}}


def frame(number: int, *faces: dict[str, Any], skipped: int = 0) -> str:
    """The answer to a frame."""
    values = {"type": "frame", "frame": number, "time_s": number / 10, "skipped": skipped, "faces": list(faces)}
    return json.dumps(values)


def error(number: int, code: str, skipped: int = 0) -> str:
    """The answer to a frame that could not be analysed."""
    problem = {"title": code, "status": 422, "detail": f"it is {code}", "code": code, "request_id": "r1"}
    return json.dumps({"type": "error", "frame": number, "skipped": skipped} | problem)


def tracked(valence: float = 0.5, track_id: int = 1) -> dict[str, Any]:
    """A face of a live answer."""
    return face(valence) | {"track_id": track_id}


def say_ready(connection: ServerConnection) -> None:
    connection.send(json.dumps(READY))


def answer_each(connection: ServerConnection) -> None:
    """Answer each picture with a face whose valence is its first byte, in hundredths; one without a byte is bad."""
    say_ready(connection)
    for number, picture in enumerate(connection):
        if picture:
            connection.send(frame(number, tracked(picture[0] / 100)))
        else:
            connection.send(error(number, "undecodable_media"))


@dataclass
class FakeLive:
    """The server; `seen` are the handshakes in their order."""

    url: str = ""
    seen: list[Request] = field(default_factory=list)


@contextmanager
def fake_live(handler: Handler, refusal: tuple[int, str] | None = None) -> Iterator[FakeLive]:
    """A fake live channel in a thread of its own; with `refusal`, a status and a body, it opens no connection."""
    live = FakeLive()

    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        live.seen.append(request)
        return None if refusal is None else connection.respond(HTTPStatus(refusal[0]), refusal[1])

    with serve(handler, "127.0.0.1", 0, process_request=process_request, compression=None) as server:
        live.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield live
        finally:
            server.shutdown()
            thread.join()
