"""A service without networks: it follows the HTTP contract, and a test decides what it answers."""

import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

TASK = {"bundle": "fake", "version": "7", "sha256": "0" * 64, "reference": "derived", "calibrated": True}
TASKS = {
    "valence_arousal": TASK,
    "expression": TASK,
    "action_units": TASK | {"units": {"AU1": {"name": "inner brow raiser"}, "AU12": {"name": "lip corner puller"}}},
}
MODEL = {"device": "cpu", "engine": "torch", "precision": "float32", "detector": "fake-1", "tasks": TASKS}
MODELS = {name: MODEL[name] for name in ("device", "engine", "precision", "detector")} | {
    "bundles": [{"name": "fake", "labels": ["neutral", "happiness"], "tasks": TASKS, "answers": list(TASKS)}],
    "video_fps": 10.0,
    "limits": {"AFFECT_MAX_VIDEO_S": 600},
}


def face(valence: float = 0.5) -> dict[str, Any]:
    """A face as the service's documents tell it."""
    return {
        "box": {"x": 1.0, "y": 2.0, "width": 30.0, "height": 40.0},
        "detection_confidence": 0.9,
        "pose": {"yaw": 1.0, "pitch": 2.0, "roll": 3.0},
        "quality": {"face_px": 30, "sharpness": 0.5, "reliable": False, "reasons": ["small", "turned"]},
        "valence": valence,
        "arousal": -valence,
        "expression": {"label": "happiness", "probabilities": {"neutral": 0.25, "happiness": 0.75}},
        "action_units": {
            "AU1": {"probability": 0.125, "active": False},
            "AU12": {"probability": 0.875, "active": True},
        },
    }


def picture_document(*faces: dict[str, Any]) -> dict[str, Any]:
    """Answer of POST /analyze/frame."""
    points = {name: [3.0, 4.0] for name in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")}
    return {
        "request_id": "r1",
        "model": MODEL,
        "image": {"width": 64, "height": 48},
        "faces": [each | {"landmarks": points} for each in faces],
        "timings_ms": {"total": 3.5},
    }


def problem(status: int, code: str, **rest: Any) -> dict[str, Any]:
    """A problem document."""
    values = {"type": f"urn:affect:problem:{code}", "title": code, "status": status, "detail": f"it is {code}"}
    return values | {"code": code, "request_id": "r9"} | rest


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    def part(self, name: str) -> bytes | None:
        """Return the content of a file of the form."""
        boundary = b"--" + self.headers["content-type"].partition("boundary=")[2].encode()
        for part in self.body.split(boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            if f'name="{name}"'.encode() in head:
                return content.removesuffix(b"\r\n")
        return None


@dataclass(frozen=True)
class Answer:
    """What is answered; `pieces` are sent one by one, and the connection breaks where they raise BrokenPipeError."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] = ()


def document(values: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON document."""
    return Answer(status, {"Content-Type": "application/json", **headers}, [json.dumps(values).encode()])


def refused(status: int, code: str, **headers: str) -> Answer:
    """A problem, with headers whose names have underscores for hyphens."""
    return document(problem(status, code), status, **{name.replace("_", "-"): value for name, value in headers.items()})


def ndjson(*objects: dict[str, Any]) -> Answer:
    """A stream of objects."""
    return Answer(
        200, {"Content-Type": "application/x-ndjson"}, [json.dumps(each).encode() + b"\n" for each in objects]
    )


Reply: TypeAlias = Callable[[Seen], Answer | None]
"""Returns the answer to a request; None breaks the connection without any."""


class FakeService(ThreadingHTTPServer):
    """The server; `seen` are all requests in their order."""

    daemon_threads = True

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.seen: list[Seen] = []
        self.noting = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeService

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, address.path, dict(parse_qsl(address.query)), headers, body)
        with self.server.noting:
            self.server.seen.append(seen)
        answer = self.server.reply(seen)
        self.close_connection = True
        if answer is None:
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        # A generator learns that the client has left.
        with closing(_sent(answer.pieces)) as pieces:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _sent(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    yield from pieces  # which closes a generator with this one


@contextmanager
def fake_service(reply: Reply) -> Iterator[FakeService]:
    """A fake service in a thread of its own."""
    with FakeService(reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def in_turn(*answers: Answer | None) -> Reply:
    """Give these answers one after the other, and the last one from then on."""
    remaining = list(answers)
    return lambda seen: remaining.pop(0) if len(remaining) > 1 else remaining[0]
