"""Live analysis with a fake channel."""

import json
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.sync.server import ServerConnection

from affect_client import Affect, AffectError, LiveStream, MissingExtra
from affect_client import live as live_module
from tests.client.fake_live import answer_each, error, fake_live, frame, say_ready, tracked
from tests.client.fake_service import Answer, fake_service, in_turn, problem


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that wait are waited for no longer than a moment."""
    monkeypatch.setattr(live_module, "CLOSE_S", 0.2)


@contextmanager
def endless() -> Iterator[Iterator[bytes]]:
    """A picture, and then no further one until the block ends."""
    over = threading.Event()

    def pictures() -> Iterator[bytes]:
        while True:
            yield b"\x32"
            assert over.wait(20)

    try:
        yield pictures()
    finally:
        over.set()


def test_each_picture_is_answered() -> None:
    with fake_live(answer_each) as live, Affect(live.url, "secret-key") as affect:
        with affect.live(iter([b"\x19", b"\x32"]), max_faces=2, smoothing="causal") as answers:
            assert answers.model.units == ("AU1", "AU12")
            assert answers.limits == {"AFFECT_LIVE_FPS": 15}
            told = [(each.frame, each.time_s, each.faces[0].valence, each.skipped) for each in answers]
        assert told == [(0, 0.0, 0.25, 0), (1, 0.1, 0.5, 0)]
        [seen] = live.seen
    address = urlsplit(seen.path)
    assert address.path == "/live"
    assert parse_qs(address.query) == {"max_faces": ["2"], "smoothing": ["causal"]}
    assert seen.headers["Authorization"] == "Bearer secret-key"


def test_the_pictures_are_free_once_the_block_is_left() -> None:
    def pictures() -> Generator[bytes, None, None]:
        while True:
            yield b"\x32"
            time.sleep(0.2)

    with (
        fake_live(answer_each) as live,
        Affect(live.url) as affect,
        closing(pictures()) as camera,
        affect.live(camera) as answers,
    ):
        next(answers)


def test_a_picture_that_cannot_be_analysed_is_an_answer() -> None:
    with fake_live(answer_each) as live, Affect(live.url) as affect, affect.live([b"", b"\x32"]) as answers:
        bad, good = answers
    assert bad.error is not None
    assert (bad.error.code, bad.faces, bad.time_s) == ("undecodable_media", (), None)
    with pytest.raises(AffectError, match="it is undecodable_media"):
        _ = bad.as_frame
    assert good.as_frame.time_s == 0.1


def test_pictures_that_are_skipped_are_counted() -> None:
    def handler(connection: ServerConnection) -> None:
        say_ready(connection)
        for _ in range(4):
            connection.recv()
        connection.send(json.dumps({"type": "overloaded", "frame": 1, "pause_s": 0.5, "detail": "busy"}))
        connection.send(frame(3, tracked(), skipped=3))
        assert [*connection] == []

    with fake_live(handler) as live, Affect(live.url) as affect, affect.live([b"1", b"2", b"3", b"4"]) as answers:
        [only] = answers
    assert (only.frame, only.skipped) == (3, 3)


def test_the_last_picture_may_be_skipped_for_good() -> None:
    def handler(connection: ServerConnection) -> None:
        say_ready(connection)
        connection.recv()
        connection.send(json.dumps({"type": "overloaded", "frame": 0, "pause_s": 0.5, "detail": "busy"}))
        assert [*connection] == []

    with fake_live(handler) as live, Affect(live.url) as affect, affect.live([b"1"]) as answers:
        assert list(answers) == []


def test_the_answers_end_where_the_pictures_end_after_the_last_answer() -> None:
    has_answer = threading.Event()

    def pictures() -> Iterator[bytes]:
        yield b"\x32"
        assert has_answer.wait(20)

    with fake_live(answer_each) as live, Affect(live.url) as affect, affect.live(pictures()) as answers:
        assert next(answers).frame == 0
        has_answer.set()
        assert list(answers) == []


def test_no_pictures_have_no_answers() -> None:
    with fake_live(answer_each) as live, Affect(live.url) as affect, affect.live([]) as answers:
        assert list(answers) == []


def test_times_are_those_of_sending() -> None:
    with fake_live(answer_each) as live, Affect(live.url) as affect:
        ticks = iter([5.0, 7.0])
        with LiveStream(affect._connection, [b"\x32", b"\x32"], {}, clock=lambda: next(ticks)) as answers:
            assert [each.sent_s for each in answers] == [5.0, 7.0]


@pytest.mark.usefixtures("impatient")
def test_leaving_ends_the_connection() -> None:
    left = threading.Event()

    def handler(connection: ServerConnection) -> None:
        answer_each(connection)  # which ends with the connection
        left.set()

    with fake_live(handler) as live, Affect(live.url) as affect, endless() as pictures:
        with affect.live(pictures) as answers:
            assert next(answers).frame == 0
        assert left.wait(20)
        assert list(answers) == []


def test_a_camera_that_fails_is_told() -> None:
    def pictures() -> Iterator[bytes]:
        yield b"\x32"
        raise OSError("the camera is gone")

    with (
        fake_live(answer_each) as live,
        Affect(live.url) as affect,
        affect.live(pictures()) as answers,
        pytest.raises(OSError, match="the camera is gone"),
    ):
        list(answers)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("number", "reason", "code"),
    [
        (4401, "send a key", "unauthorized"),
        (1012, "the service is shutting down", "draining"),
        (1011, "", "connection_lost"),
    ],
)
def test_the_services_end_is_an_error(number: int, reason: str, code: str) -> None:
    def handler(connection: ServerConnection) -> None:
        say_ready(connection)
        connection.recv()
        connection.close(number, reason)

    with (
        fake_live(handler) as live,
        Affect(live.url) as affect,
        endless() as pictures,
        affect.live(pictures) as answers,
        pytest.raises(AffectError, match=reason or "no reason was given") as caught,
    ):
        list(answers)
    assert caught.value.code == code


def test_a_refused_handshake_is_the_services_problem() -> None:
    refusal = json.dumps(problem(429, "overloaded"))
    with fake_live(answer_each, (429, refusal)) as live, Affect(live.url) as affect:
        with pytest.raises(AffectError, match=r"it is overloaded \(overloaded\)") as caught:
            affect.live([])
        assert caught.value.status == 429
    with fake_live(answer_each, (404, "not JSON")) as live, Affect(live.url) as affect:
        with pytest.raises(AffectError, match="opened no live connection") as caught:
            affect.live([])
        assert caught.value.code == "unexpected_answer"


def test_a_redirection_to_where_no_websocket_is_is_an_error() -> None:
    with fake_service(in_turn(Answer(302, {"Location": "http://127.0.0.1:1/"}, []))) as service:
        with Affect(service.url) as affect, pytest.raises(AffectError) as caught:
            affect.live([])
        assert caught.value.code == "unreachable"


def test_nobody_there() -> None:
    with Affect("http://127.0.0.1:1") as affect, pytest.raises(AffectError) as caught:
        affect.live([])
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("text", ["not JSON", "[" * 100_000, '{"type": "frame"}', error(7, "overloaded")])
def test_what_is_not_the_protocol_is_told(text: str) -> None:
    def handler(connection: ServerConnection) -> None:
        say_ready(connection)
        connection.recv()
        connection.send(text)
        list(connection)

    with fake_live(handler) as live, Affect(live.url) as affect, affect.live([b"1"]) as answers:
        with pytest.raises(AffectError) as caught:
            list(answers)
        assert caught.value.code == "unexpected_answer"


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.sync.client", None)
    with Affect() as affect, pytest.raises(MissingExtra, match=r"facial-affect-service\[watch\]"):
        affect.live([])
