"""Connections as a hostile or careless client leaves them: sockets and bytes, over the server that ships."""

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest.mock import Mock

import pytest
import uvicorn

from service.http import connections
from service.http.connections import most_connections
from service.logs import OnceASecond
from service.settings import Settings
from tests.service.http.serving import served
from tests.service.media_files import png
from tests.service.scheduling.clocks import wait_for

KEY = "sixteen-letters-or-more"


@contextmanager
def connected(server: uvicorn.Server) -> Iterator[socket.socket]:
    address = server.servers[0].sockets[0].getsockname()
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def all_of(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection; a reset is an error."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def breaks(connection: socket.socket, part: bytes) -> bool:
    """Send a part again and again, far more than all buffers hold; True if the server breaks the connection."""
    try:
        for _ in range(10_000):
            connection.sendall(part)
    except ConnectionError:
        return True
    return False


def told(server: uvicorn.Server, request: bytes) -> bytes:
    """What the server answers on a connection of its own, which it closes."""
    with connected(server) as connection:
        connection.sendall(request)
        return all_of(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def document(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return json.loads(body)


def form(content: bytes) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return part + content + b"\r\n--x--\r\n"


def post(*headers: str, key: str = KEY) -> bytes:
    """The head of a request for the analysis of a picture in a form."""
    lines = ["POST /analyze/frame HTTP/1.1", "Host: t", "Content-Type: multipart/form-data; boundary=x"]
    return "\r\n".join([*lines, f"X-API-Key: {key}", *headers, "", ""]).encode()


def chunked(content: bytes, size: int) -> bytes:
    parts = [content[begin : begin + size] for begin in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    with served(Settings(api_keys=(KEY,), max_upload_bytes=300_000)) as running:
        yield running


class TestFraming:
    @pytest.mark.parametrize("size", [1, 7, 100_000])
    def test_chunks_of_any_size_make_up_the_body(self, server: uvicorn.Server, size: int) -> None:
        body = chunked(form(png(204)), size)
        answer = told(server, post("Transfer-Encoding: chunked", "Connection: close") + body)
        assert status(answer) == 200

    @pytest.mark.parametrize(
        "headers",
        [
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 5"),
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: +5",),
            ("Content-Length: 0x5",),
            ("Content-Length: 5, 5",),
            ("Content-Length: -1",),
            ("Content-Length: " + 30 * "9",),
            ("Transfer-Encoding: gzip, identity",),
            ("Transfer-Encoding : chunked",),
            ("Transfer-Encoding: chunked", " folded: 1"),
            ("Na me: 1",),
            ("Nul: \0",),
        ],
    )
    def test_a_head_that_two_programs_might_read_differently_is_refused(
        self, server: uvicorn.Server, headers: tuple[str, ...]
    ) -> None:
        smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: t\r\n\r\n"
        answer = told(server, post(*headers) + smuggled)
        assert status(answer) == 400
        assert document(answer)["code"] == "malformed_request"
        assert answer.count(b"HTTP/1.1 ") == 1

    @pytest.mark.parametrize("chunk", [b"xyz\r\n", b"-1\r\n", b"5\nhello\n", b"ffffffffffffffffff\r\n"])
    def test_a_broken_chunk_is_refused(self, server: uvicorn.Server, chunk: bytes) -> None:
        assert status(told(server, post("Transfer-Encoding: chunked") + chunk)) == 400

    @pytest.mark.parametrize(
        "request_line",
        [
            b"GET",
            b"GET / HTTP/9.9",
            b"GET http://[ HTTP/1.1",
            b"BREW / HTTP/1.1",
            b"\x16\x03\x01\x02\0\x01",
            b"GET / FTP/1.1",
            b"CONNECT t:443 HTTP/1.1",
        ],
    )
    def test_what_is_no_request_is_refused(self, server: uvicorn.Server, request_line: bytes) -> None:
        answer = told(server, request_line + b"\r\nHost: t\r\n\r\n")
        assert (status(answer), document(answer)["code"]) == (400, "malformed_request")

    def test_what_is_no_request_is_refused_behind_a_good_one(self, server: uvicorn.Server) -> None:
        answer = told(server, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\nCONNECT t:443 HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (status(answer), document(answer)["code"]) == (400, "malformed_request")

    def test_requests_one_behind_the_other_are_answered_in_order(self, server: uvicorn.Server) -> None:
        get = b"GET %s HTTP/1.1\r\nHost: t\r\n%s\r\n"
        answer = told(server, get % (b"/healthz", b"") + get % (b"/nowhere", b"Connection: close\r\n"))
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 401]

    @pytest.mark.parametrize("behind", [16, 17, 3000])
    def test_no_more_than_sixteen_requests_wait_behind_one(self, server: uvicorn.Server, behind: int) -> None:
        get = b"GET /healthz HTTP/1.1\r\nHost: t\r\n%s\r\n"
        answers = told(server, get % b"" * behind + get % b"Connection: close\r\n")
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b"HTTP/1.1 ") == 17

    def test_trailers_are_no_headers(self, server: uvicorn.Server) -> None:
        body = chunked(form(png(204)), 100_000)[:-2] + b"X-API-Key: " + KEY.encode() + b"\r\n\r\n"
        assert status(told(server, post("Transfer-Encoding: chunked", key="no") + body)) == 401

    def test_the_offer_of_another_protocol_is_passed_over(self, server: uvicorn.Server) -> None:
        offer = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, close\r\nUpgrade: %s\r\n\r\n"
        for protocol in (b"h2c", b"websocket"):
            assert status(told(server, offer % protocol)) == 200

    def test_endless_headers_are_refused(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\nX: " + 300_000 * b"x")
            answer = all_of(connection)
        assert (status(answer), document(answer)["detail"]) == (400, "the headers are too large")

    def test_endless_trailers_end_the_connection(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(post("Transfer-Encoding: chunked") + b"0\r\n")
            assert breaks(connection, b"X: " + 60_000 * b"x" + b"\r\n")


class TestBodiesThatNobodyReads:
    """The answer comes before the body's end: the client sees it, and the connection ends."""

    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            (post("Transfer-Encoding: chunked", key="wrong"), 401),
            (post("Content-Length: 100000000", key="wrong"), 401),
            (post("Content-Length: 100000000"), 413),
        ],
    )
    def test_the_answer_ends_the_connection(self, server: uvicorn.Server, head: bytes, expected: int) -> None:
        with connected(server) as connection:
            connection.sendall(head)
            answer = all_of(connection)  # the server has ended its side, and reads on for a while
            connection.sendall(1000 * b"x")
        assert status(answer) == expected
        assert b"connection: close" in answer.lower()

    def test_who_sends_all_of_a_large_body_first_sees_the_answer(self, server: uvicorn.Server) -> None:
        answer = told(server, post("Content-Length: 8000000") + bytes(8_000_000))
        assert (status(answer), document(answer)["code"]) == (413, "upload_too_large")

    def test_an_endless_body_is_not_read_for_ever(self) -> None:
        with served(Settings(api_keys=(KEY,)), linger_bytes=1_000_000, linger_s=60) as server, connected(server) as one:
            one.sendall(post("Transfer-Encoding: chunked", key="wrong"))
            chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
            assert breaks(one, chunk)

    def test_a_silent_body_is_not_waited_for(self) -> None:
        with served(Settings(api_keys=(KEY,)), linger_s=0.05) as server, connected(server) as one:
            one.sendall(post("Content-Length: 10", key="wrong"))
            assert status(all_of(one)) == 401
            wait_for(lambda: not server.server_state.connections)

    def test_a_body_that_was_received_keeps_the_connection(self, server: uvicorn.Server) -> None:
        body = form(b"no picture")
        with connected(server) as connection:
            for _ in range(2):
                connection.sendall(post(f"Content-Length: {len(body)}") + body)
                answer = connection.recv(65536)
                assert status(answer) == 415
                assert b"connection: close" not in answer.lower()


class BrokenTransport:
    """uvloop's, once the client has reset the connection and before that is told."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise RuntimeError("the handle is closed")


def test_an_answer_to_a_client_that_is_just_leaving_is_dropped() -> None:
    connection = Mock(lingering=False, transport=BrokenTransport())
    closed_softly = connections._ClosedSoftly(connection)
    assert closed_softly.is_closing()
    closed_softly.write(b"HTTP/1.1 200 OK")


class TestLimits:
    @pytest.mark.parametrize("beginning", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: t\r\n"])
    def test_a_head_that_does_not_end_is_not_waited_for(self, beginning: bytes) -> None:
        with served(head_s=0.1) as server, connected(server) as connection:
            connection.sendall(beginning)
            with suppress(ConnectionError):
                assert all_of(connection) == b""
            wait_for(lambda: not server.server_state.connections)

    @pytest.mark.parametrize("last", [b"Connection: close\r\n", b""], ids=["the last answer", "one more may come"])
    def test_an_answer_that_is_not_read_is_not_kept(self, last: bytes) -> None:
        get = b"GET /openapi.json HTTP/1.1\r\nHost: t\r\n" + last + b"\r\n"
        with served(flush_s=0.2) as server:
            server.config.timeout_keep_alive = 0.1
            # Connections inherit it, so that the system does not take the whole answer from the service.
            server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with connected(server) as stalled:
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stalled.sendall(get)
                wait_for(lambda: bool(server.server_state.connections))
                wait_for(lambda: not server.server_state.connections)

    def test_what_is_read_slowly_is_sent_to_its_end(self) -> None:
        left = [300, 200, 100]
        transport = Mock(is_closing=lambda: True, get_write_buffer_size=lambda: left[0])
        connection = Mock(transport=transport, lingering=False)
        connection._expect_flush = lambda: left.pop(0)
        while len(left) > 1:
            connections.Connection._look_at_flush(connection, left[0] + 1)
        transport.abort.assert_not_called()
        connections.Connection._look_at_flush(connection, left[0])
        transport.abort.assert_called_once()

    def test_a_further_request_has_the_same_time(self) -> None:
        with served(head_s=0.1) as server, connected(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\nGET /h")
            wait_for(lambda: not server.server_state.connections)

    def test_idle_connections_make_room_for_a_further_one(self) -> None:
        get = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
        with served(most=2) as server, connected(server) as first, connected(server) as second:
            for connection in (first, second):
                connection.sendall(get)
                assert status(connection.recv(65536)) == 200
            for _ in range(3):  # one after another, and each ends
                assert status(told(server, get.replace(b"Host: t", b"Host: t\r\nConnection: close"))) == 200
            assert all_of(first) == b""  # it had been idle longest
            second.sendall(get)
            assert status(second.recv(65536)) == 200

    def test_a_connection_beyond_the_limit_is_refused_with_a_problem(self) -> None:
        get = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        with served(most=2) as server:
            with connected(server) as one, connected(server) as other:
                wait_for(lambda: len(server.server_state.connections) == 2)
                answer = told(server, get)
                assert (status(answer), document(answer)["code"]) == (503, "not_ready")
                assert document(answer)["limit"] == {"name": "AFFECT_MAX_CONNECTIONS", "value": 2}
                assert b"retry-after: 1" in answer.lower()
                one.sendall(get)  # who came in time is served
                assert status(all_of(one)) == 200
                other.sendall(get)
                assert status(all_of(other)) == 200
            wait_for(lambda: not server.server_state.connections)
            assert status(told(server, get)) == 200
            metrics = told(server, b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            assert b"affect_connections_refused_total 1.0" in metrics

    @pytest.mark.parametrize(("hard", "most"), [(1_048_576, 1000), (256, 32), (10, 1)])
    def test_there_are_descriptors_for_all_connections(
        self, monkeypatch: pytest.MonkeyPatch, hard: int, most: int
    ) -> None:
        given: list[tuple[int, int]] = []
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (64, hard))
        monkeypatch.setattr(connections.resource, "setrlimit", lambda _, limits: given.append(limits))
        assert most_connections(1000) == most
        assert given == [(hard, hard)]


def test_what_clients_cause_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    logger = logging.getLogger("test.once")
    logger.addFilter(OnceASecond(lambda: now_s[0]))
    with caplog.at_level("WARNING", logger="test.once"):
        for second in (0.0, 0.5, 0.9, 1.0, 1.5, 2.5):
            now_s[0] = second
            logger.warning("socket.accept() failed, %d", 24)
            if second == 0.9:
                logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == [
        "socket.accept() failed, 24",
        "something else",
        "socket.accept() failed, 24 (2 more like this)",
        "socket.accept() failed, 24 (1 more like this)",
    ]
