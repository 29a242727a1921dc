"""Live connections over the server that ships, and a client that knows nothing of it."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest.mock import Mock

import httpx2
import pytest
import uvicorn
from pydantic import TypeAdapter
from starlette.testclient import TestClient, WebSocketDenialResponse
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from service.app import create_app
from service.http.websockets import WebSocketConnection
from service.output.schemas import LiveMessage
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor
from tests.service.http.serving import port_of, readiness_of, served
from tests.service.media_files import png
from tests.service.scheduling.clocks import until, wait_for

KEYS = ("first-key-0123456", "second-key-012345")
OFFER = b"Host: t\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
HANDSHAKE = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
MESSAGE: TypeAdapter[Any] = TypeAdapter(LiveMessage)


def live(server: uvicorn.Server, query: str = "", **options: Any) -> AbstractContextManager[ClientConnection]:
    return connect(f"ws://127.0.0.1:{port_of(server)}/live{query}", compression=None, **options)


def told(client: ClientConnection) -> dict[str, Any]:
    """The next message, which is as the schema has it."""
    message: dict[str, Any] = json.loads(client.recv(timeout=20))
    MESSAGE.validate_python(message)
    return message


def asked(client: ClientConnection, picture: bytes) -> dict[str, Any]:
    client.send(picture)
    return told(client)


def close_of(client: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the service closes, whatever it says before."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=20)
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


def refusal(server: uvicorn.Server, query: str = "", **options: Any) -> dict[str, Any]:
    """The problem document with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as refused, live(server, query, **options):
        pass
    response = refused.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.body is not None
    document: dict[str, Any] = json.loads(response.body)
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def exchanged(server: uvicorn.Server, request: bytes) -> bytes:
    """What the service answers first on a connection of its own: its head, and the body that the head announces."""
    address = ("127.0.0.1", port_of(server))
    with socket.create_connection(address, timeout=20) as connection, connection.makefile("rb") as answer:
        connection.sendall(request)
        head = b""
        while (line := answer.readline()) not in (b"", b"\r\n"):
            head += line
        length = re.search(rb"(?i)^content-length: (\d+)", head, re.M)
        return head + answer.read(int(length[1]) if length else 0)


def metric(server: uvicorn.Server, name: str) -> float:
    text = httpx2.get(f"http://127.0.0.1:{port_of(server)}/metrics").text
    [line] = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    with served(Settings(live_fps=1000, max_pixels=1_000_000)) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[uvicorn.Server]:
    with served(Settings(api_keys=KEYS, live_connections=2, allowed_origins="https://lab.example")) as running:
        yield running


def test_each_frame_is_answered_in_order_with_the_same_track(server: uvicorn.Server) -> None:
    with live(server) as client:
        ready = told(client)
        assert (ready["type"], ready["model"]["detector"]) == ("ready", "fake-1")
        assert ready["limits"]["AFFECT_LIVE_FPS"] == 1000
        answers = [asked(client, png(level)) for level in (51, 102, 204)]
        assert [answer["frame"] for answer in answers] == [0, 1, 2]
        assert [answer["skipped"] for answer in answers] == [0, 0, 0]
        assert [answer["faces"][0]["track_id"] for answer in answers] == [1, 1, 1]
        assert [answer["faces"][0]["valence"] for answer in answers] == pytest.approx([0.2, 0.4, 0.8])
        times = [answer["time_s"] for answer in answers]
        assert times == sorted(times)
        assert 0 <= times[0] < 20


def test_two_connections_have_tracks_of_their_own(server: uvicorn.Server) -> None:
    with live(server) as one, live(server) as other:
        assert told(one)["type"] == told(other)["type"] == "ready"
        assert [asked(one, png(204))["faces"][0]["track_id"] for _ in range(3)] == [1, 1, 1]
        answer = asked(other, png(204))
        assert (answer["frame"], answer["faces"][0]["track_id"]) == (0, 1)


def test_a_bad_frame_is_told_and_the_connection_goes_on(server: uvicorn.Server) -> None:
    with live(server) as client:
        told(client)
        asked(client, png(204))
        for picture, code in (
            (b"", "undecodable_media"),
            (b"no picture", "unsupported_media_type"),
            (png(204)[:60], "undecodable_media"),
            (png(204, 2000, 1000), "too_many_pixels"),
        ):
            answer = asked(client, picture)
            assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["limit"] == {"name": "AFFECT_MAX_PIXELS", "value": 1_000_000}
        answer = asked(client, png(204))
        assert (answer["frame"], answer["skipped"], answer["faces"][0]["track_id"]) == (5, 0, 1)


def test_a_change_of_size_is_no_fault(server: uvicorn.Server) -> None:
    with live(server) as client:
        told(client)
        sizes = [(64, 48), (48, 64), (640, 480), (8, 8)]
        assert [asked(client, png(204, *size))["type"] for size in sizes] == 4 * ["frame"]


def test_parameters_are_those_of_a_video_that_make_sense(server: uvicorn.Server) -> None:
    with live(server, "?max_faces=1&min_confidence=0.95&smoothing=causal&temporal=off") as client:
        told(client)
        assert asked(client, png(204))["faces"] == []  # the face has a confidence of 0.9
    for query, name in (
        ("?smoothing=offline", "smoothing"),
        ("?fps=5", "fps"),
        ("?max_faces=0", "max_faces"),
        ("?max_faces=1&max_faces=2", "max_faces"),
    ):
        document = refusal(server, query)
        assert (document["code"], document["detail"].partition(":")[0]) == ("invalid_parameter", name)


def test_causal_smoothing_remembers(server: uvicorn.Server) -> None:
    with live(server, "?smoothing=causal") as client:
        told(client)
        valences = [asked(client, png(level))["faces"][0]["valence"] for level in (51, 204)]
    assert valences[0] == pytest.approx(0.2)
    assert 0.2 < valences[1] < 0.8


def test_a_request_without_the_upgrade_is_told_what_this_is(server: uvicorn.Server) -> None:
    answer = httpx2.get(f"http://127.0.0.1:{port_of(server)}/live")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


def test_text_instead_of_pictures_ends_the_connection(server: uvicorn.Server) -> None:
    with live(server) as client:
        client.send('{"authorization": "Bearer whatever"}')  # does no harm where no key is required
        told(client)
        client.send("a picture, in words")
        assert close_of(client) == (1003, "send each picture as a binary message")


class TestKeys:
    def test_a_key_comes_in_a_header_or_as_the_first_message(self, guarded: uvicorn.Server) -> None:
        for header in ({"X-API-Key": KEYS[0]}, {"Authorization": f"Bearer {KEYS[1]}"}):
            with live(guarded, additional_headers=header) as client:
                assert told(client)["type"] == "ready"
        with live(guarded) as client:
            client.send(json.dumps({"authorization": f"Bearer {KEYS[1]}"}))
            assert told(client)["type"] == "ready"
            assert asked(client, png(204))["type"] == "frame"

    @pytest.mark.parametrize(
        "message",
        [
            '{"authorization": "Bearer wrong-key-0123456"}',
            f'{{"authorization": "{KEYS[0]}"}}',
            f'{{"key": "{KEYS[0]}"}}',
            "[" * 3000,
            png(204),
            b"",
        ],
    )
    def test_whoever_has_no_key_is_sent_away(self, guarded: uvicorn.Server, message: str | bytes) -> None:
        with live(guarded) as client:
            client.send(message)
            code, reason = close_of(client)
        assert code == 4401
        assert reason.startswith('send {"authorization": "Bearer KEY"} first')

    def test_a_wrong_header_is_refused_before_the_upgrade(self, guarded: uvicorn.Server) -> None:
        assert refusal(guarded, additional_headers={"X-API-Key": "wrong"})["code"] == "unauthorized"

    def test_a_key_that_does_not_come_ends_the_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.http.live.KEY_S", 0.05)
        with served(Settings(api_keys=KEYS)) as server, live(server) as client:
            assert close_of(client)[0] == 4401


class TestOrigins:
    def test_pages_of_the_service_and_of_those_that_are_named_may_connect(self, guarded: uvicorn.Server) -> None:
        key = {"X-API-Key": KEYS[0]}
        for origin in (f"http://127.0.0.1:{port_of(guarded)}", "https://lab.example", "HTTPS://Lab.Example"):
            with live(guarded, origin=origin, additional_headers=key) as client:
                assert told(client)["type"] == "ready"

    @pytest.mark.parametrize(
        "origin",
        ["http://127.0.0.1", "http://evil.example", "http://lab.example", "https://lab.example.evil.example", "null"],
    )
    def test_pages_of_others_may_not(self, guarded: uvicorn.Server, origin: str) -> None:
        assert refusal(guarded, origin=origin)["code"] == "origin_not_allowed"


class TestLimits:
    def test_there_are_no_more_connections_than_places(self, guarded: uvicorn.Server) -> None:
        key = {"X-API-Key": KEYS[0]}
        with live(guarded, additional_headers=key) as one, live(guarded, additional_headers=key) as other:
            told(one)
            told(other)
            document = refusal(guarded, additional_headers=key)
            assert (document["status"], document["code"]) == (429, "overloaded")
            assert document["limit"] == {"name": "AFFECT_LIVE_CONNECTIONS", "value": 2}
            with live(guarded) as late:
                late.send(json.dumps({"authorization": f"Bearer {KEYS[1]}"}))
                assert close_of(late) == (1013, "there are 2 live connections, and may be no more")
            assert metric(guarded, "affect_live_connections") == 2
        wait_for(lambda: metric(guarded, "affect_live_connections") == 0)

    def test_a_frame_that_is_too_large_ends_the_connection(self) -> None:
        with served(Settings(live_max_frame_bytes=1000)) as server, live(server) as client:
            told(client)
            client.send(bytes(1001))
            assert close_of(client)[0] == 1009

    def test_an_idle_connection_and_a_long_one_end(self) -> None:
        with served(Settings(live_idle_s=0.05)) as server, live(server) as client:
            assert close_of(client) == (4408, "no frame has come for 0.05 s (AFFECT_LIVE_IDLE_S)")
        with served(Settings(live_max_s=0.05)) as server, live(server) as client:
            assert close_of(client) == (4408, "the connection has lasted 0.05 s (AFFECT_LIVE_MAX_S)")

    def test_sixteen_bad_frames_in_a_row_end_the_connection(self, server: uvicorn.Server) -> None:
        with live(server) as client:
            told(client)
            for _ in range(16):
                assert asked(client, b"no picture")["type"] == "error"
            assert close_of(client) == (1008, "16 frames in a row could not be analysed")

    def test_overload_is_said_and_skips_frames(self) -> None:
        predictor = FakePredictor()
        settings = Settings(decode_workers=1, live_max_wait_s=1e-6, live_fps=1000)
        with served(settings, predictor) as server, live(server) as one, live(server) as other:
            told(one)
            told(other)
            asked(one, png(204))  # so that the service knows how long a frame takes
            predictor.gate.clear()
            one.send(png(204))
            wait_for(lambda: predictor.begun == 2)
            notice = asked(other, png(204))
            assert (notice["type"], notice["frame"]) == ("overloaded", 0)
            assert notice["limit"] == {"name": "AFFECT_LIVE_MAX_WAIT_S", "value": 1e-6}
            predictor.gate.set()
            assert told(one)["frame"] == 1
            answer = asked(other, png(204))
            assert (answer["type"], answer["frame"], answer["skipped"]) == ("frame", 1, 1)
            assert metric(server, 'affect_live_skipped_total{reason="overloaded"}') == 1
            assert metric(server, 'affect_frames_total{route="/live"}') == 3

    def test_a_service_that_cannot_answer_refuses_before_the_upgrade(self) -> None:
        with served() as server:
            with live(server) as client:
                told(client)
                assert metric(server, 'affect_in_flight{route="/live"}') == 1
                assert metric(server, 'affect_requests_total{route="/live",status="101"}') == 1
            readiness_of(server.config.app).drain()
            assert refusal(server)["code"] == "draining"
        with (
            TestClient(create_app(Settings(), FakeDetector(), None)) as client,
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect("/live"),
        ):
            pass
        assert (refused.value.status_code, refused.value.json()["code"]) == (503, "not_ready")


class TestEnds:
    def test_a_server_that_stops_answers_what_it_has_begun(self) -> None:
        predictor = FakePredictor()
        with served(predictor=predictor) as server, live(server) as client:
            told(client)
            predictor.gate.clear()
            client.send(png(204))
            wait_for(lambda: predictor.begun == 1)
            server.should_exit = True
            wait_for(lambda: not server.servers[0].is_serving())
            predictor.gate.set()
            assert told(client)["type"] == "frame"
            assert close_of(client) == (1012, "the service is shutting down")

    def test_a_client_that_leaves_amid_a_frame_leaves_nothing_behind(self) -> None:
        predictor = FakePredictor()
        with served(predictor=predictor) as server:
            with live(server) as client:
                told(client)
                predictor.gate.clear()
                client.send(png(204))
                wait_for(lambda: predictor.begun == 1)
            wait_for(lambda: metric(server, "affect_live_connections") == 0)
            predictor.gate.set()
            wait_for(lambda: not server.server_state.tasks)
            with live(server) as client:
                told(client)
                assert asked(client, png(204))["faces"][0]["track_id"] == 1


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application that ends at once."""


async def unending(scope: object, receive: object, send: object) -> None:
    """An application that leaves its messages to the test."""
    await asyncio.Event().wait()


def unserved(loop: asyncio.AbstractEventLoop | None = None) -> WebSocketConnection:
    """A connection without a server, a socket and a client."""
    config = uvicorn.Config(nothing)
    config.load()
    connection = WebSocketConnection(config, ServerState(), {}, loop or Mock())
    connection.transport, connection.scope = Mock(), Mock()
    return connection


class TestHostileClients:
    def test_parts_without_end_are_no_message(self) -> None:
        connection = unserved()
        connection.conn.state = State.OPEN
        connection.handle_bytes(Frame(Opcode.BINARY, b"a", fin=False))
        for _ in range(2000):
            connection.handle_cont(Frame(Opcode.CONT, b"", fin=False))
        assert connection.conn.close_sent == Close(1008, "a message has more than 1024 parts")
        assert len(connection.frames) == 1024
        assert connection.transport.close.call_count == 1

    def test_who_does_not_speak_the_protocol_is_cut_off(self, server: uvicorn.Server) -> None:
        with live(server) as client:
            told(client)
            client.socket.sendall(b"\xff\xff\xff\xff")
            assert close_of(client)[0] == 1002

    def test_pings_are_not_answered_while_nothing_is_read(self) -> None:
        connection = unserved()
        ping = Frame(Opcode.PING, b"beat").serialize(mask=False)
        for readable, written in ((True, 1), (False, 1), (True, 2)):
            (connection.resume_writing if readable else connection.pause_writing)()
            connection.conn.writes = [ping]
            connection.handle_ping()
            assert connection.transport.write.call_count == written

    @pytest.mark.parametrize("control", [Opcode.PING, Opcode.PONG])
    def test_pings_without_end_end_the_connection(self, control: Opcode) -> None:
        connection = unserved()
        connection.conn.state = State.OPEN
        frame = Frame(control, b"")
        for number in range(1, 2001):
            connection.handle_ping() if control is Opcode.PING else connection.handle_pong(frame)
            assert connection.close_sent is (number > 1024)
        assert connection.conn.close_sent == Close(1008, "there are more than 1024 pings without a message")
        assert connection.transport.close.call_count == 1

    def test_a_picture_between_pings_makes_up_for_them(self) -> None:
        connection = unserved()
        connection.conn.state = State.OPEN
        for _ in range(5):
            for _ in range(1024):
                connection.handle_ping()
            connection.handle_bytes(Frame(Opcode.BINARY, b"picture"))
        assert not connection.close_sent

    def test_many_messages_at_once_are_read_as_they_are_asked_for(self) -> None:
        async def story() -> list[int]:
            connection = unserved(asyncio.get_running_loop())
            connection.app = unending
            connection.transport.is_closing.return_value = False
            connection.data_received(b"GET /live HTTP/1.1\r\n" + OFFER + HANDSHAKE + b"\r\n")
            assert (await connection.receive())["type"] == "websocket.connect"
            await connection.send({"type": "websocket.accept"})
            connection.data_received(40_000 * Frame(Opcode.BINARY, b"").serialize(mask=True))
            waiting = [connection.queue.qsize()]
            for _ in range(40_000):
                assert await connection.receive() == {"type": "websocket.receive", "bytes": b""}
                waiting.append(connection.queue.qsize())
            assert connection.transport.pause_reading.call_count == 1
            assert connection.transport.resume_reading.call_count == 1
            for task in connection.tasks:
                task.cancel()
            return waiting

        # 40,000 messages of six bytes have come; of those no more than 16 KiB hold are taken out at a time.
        assert max(asyncio.run(story())) <= 16 * 1024 / 6 + 1

    def test_text_that_is_no_utf_8_ends_the_connection(
        self, server: uvicorn.Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        with live(server) as client:
            told(client)
            client.socket.sendall(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
            assert close_of(client) == (1007, "a text is no UTF-8")
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    def test_a_client_that_reads_nothing_to_the_end_is_broken_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.http.websockets.LINGER_S", 0.01)

        async def story() -> None:
            connection = unserved(asyncio.get_running_loop())
            connection.handshake_complete = True
            await connection.run_asgi()
            await until(lambda: connection.transport.abort.called)

        asyncio.run(story())

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"Sec-WebSocket-Version: 8\r\n",
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n",
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n",
            HANDSHAKE + b"Content-Length: 3\r\n",
            HANDSHAKE + b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
            HANDSHAKE + 130 * b"X-A: a\r\n",
            HANDSHAKE + b"X-A: " + 9000 * b"a" + b"\r\n",
        ],
    )
    def test_what_is_no_handshake_is_an_ordinary_request(self, server: uvicorn.Server, head: bytes) -> None:
        answer = exchanged(server, b"GET /live HTTP/1.1\r\n" + OFFER + head + b"\r\n")
        assert answer.split(b" ", 2)[1] == b"426"
        assert b"upgrade_required" in answer

    def test_a_handshake_is_for_live_connections_only(self, server: uvicorn.Server) -> None:
        for line, expected in (
            (b"GET /live HTTP/1.1\r\n", b"101"),
            (b"GET /live?max_faces=2 HTTP/1.1\r\n", b"101"),
            (b"GET /live HTTP/1.0\r\n", b"426"),
            (b"POST /live HTTP/1.1\r\n", b"405"),
            (b"GET /healthz HTTP/1.1\r\n", b"200"),
            (b"GET /live/ HTTP/1.1\r\n", b"404"),
        ):
            answer = exchanged(server, line + OFFER + HANDSHAKE + b"\r\n")
            assert answer.split(b" ", 2)[1] == expected, line
