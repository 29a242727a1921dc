"""What a request carries, when it is sent again, and which error it ends with."""

import itertools
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from affect_client import Affect, AffectError, FrameOptions, RetryPolicy
from affect_client.connection import Connection, Request
from tests.client.fake_service import (
    MODELS,
    Answer,
    Seen,
    document,
    face,
    fake_service,
    in_turn,
    picture_document,
    problem,
    refused,
)
from tests.service.processes import free_port

PICTURE = document(picture_document(face()))
DEEP = b"[" * 100_000
"""JSON that is nested more deeply than Python reads."""


class Sleeps(list[float]):
    """A sleep that takes no time, and remembers how long it was to be."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def outcome(affect: Affect) -> str:
    """`ok`, or the code of the error."""
    try:
        affect.frame(b"picture")
    except AffectError as error:
        return error.code
    return "ok"


def test_the_face_of_the_baseline_is_told_by_itself() -> None:
    answer = picture_document(face()) | {"baseline": face(0.125)}
    with fake_service(in_turn(document(answer))) as service, Affect(service.url) as affect:
        found = affect.frame(b"picture", baseline=b"rest")
    assert found.baseline is not None
    assert (found.baseline.valence, found.baseline.quality.reliable) == (0.125, False)


def test_a_picture_is_sent_with_its_parameters_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "naïve name.jpg"
    path.write_bytes(b"picture")
    with fake_service(in_turn(PICTURE)) as service, Affect(service.url, "secret", deadline_s=1.5) as affect:
        found = affect.frame(path, baseline=b"rest", max_faces=3, min_confidence=0.25)
    [seen] = service.seen
    assert (seen.method, seen.path) == ("POST", "/analyze/frame")
    assert seen.query == {"max_faces": "3", "min_confidence": "0.25"}
    assert seen.part("file") == b"picture"
    assert seen.part("baseline") == b"rest"
    assert seen.headers["authorization"] == "Bearer secret"
    assert seen.headers["x-request-timeout-ms"] == "1500"
    assert b"name.jpg" not in seen.body
    assert found.baseline is None
    [only] = found.faces
    assert (only.valence, only.arousal, only.box.height) == (0.5, -0.5, 40.0)
    assert only.landmarks is not None
    assert only.landmarks["nose"] == (3.0, 4.0)
    assert only.quality.reasons == ("small", "turned")
    assert (found.width, found.model.tasks["expression"].bundle) == (64, "fake")


def test_a_task_that_no_bundle_covers_is_none() -> None:
    bare = {name: face()[name] for name in ("box", "detection_confidence", "pose", "quality")}
    with fake_service(in_turn(document(picture_document(bare)))) as service, Affect(service.url) as affect:
        [found] = affect.frame(b"picture").faces
    assert (found.valence, found.expression, found.action_units, found.change) == (None, None, None, None)


def test_models() -> None:
    with fake_service(in_turn(document(MODELS))) as service, Affect(service.url) as affect:
        models = affect.models()
    assert models.labels == ("neutral", "happiness")
    assert models.model.units == ("AU1", "AU12")
    assert models.limits["AFFECT_MAX_VIDEO_S"] == 600


def test_a_problem_is_an_error_with_all_it_tells() -> None:
    limit = {"name": "AFFECT_MAX_PIXELS", "value": 1000}
    answer = document(problem(413, "too_many_pixels", limit=limit), 413)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect, pytest.raises(AffectError) as caught:
        affect.frame(b"picture")
    error = pickle.loads(pickle.dumps(caught.value))  # as another process gets it
    assert str(error) == "it is too_many_pixels (too_many_pixels)"
    assert (error.code, error.status, error.request_id, error.limit) == ("too_many_pixels", 413, "r9", limit)
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    ("answers", "slept", "ends"),
    [
        ([refused(429, "overloaded", Retry_After="7"), PICTURE], [7.0], "ok"),
        (
            [refused(503, "draining", Retry_After="1"), refused(429, "overloaded", Retry_After="2"), PICTURE],
            [1, 2],
            "ok",
        ),
        ([None, PICTURE], [0.5], "ok"),
        ([None], [0.5, 1.0, 2.0], "connection_lost"),
        ([refused(429, "overloaded", Retry_After="3")], [3.0, 3.0, 3.0], "overloaded"),
        # All waits together are bounded: 25 + 25 would be more than 40.
        ([refused(429, "overloaded", Retry_After="25")], [25.0], "overloaded"),
        ([refused(503, "not_ready")], [], "not_ready"),
        ([refused(429, "overloaded", Retry_After="soon")], [], "overloaded"),
        ([refused(429, "overloaded", Retry_After=f"Mon, 01 Jan {10**20} 00:00:00 GMT")], [], "overloaded"),
        ([refused(429, "overloaded", Retry_After=f"Mon, 01 Jan 2000 00:00:00 +{10**20}")], [], "overloaded"),
        ([refused(500, "internal_error", Retry_After="1")], [], "internal_error"),
        ([Answer(502, {"Content-Type": "text/html"}, [b"<html>bad gateway"])], [], "unexpected_answer"),
        ([Answer(200, {"Content-Type": "text/html"}, [b"<html>hello"])], [], "unexpected_answer"),
        ([document([1])], [], "unexpected_answer"),
        ([Answer(200, {}, [DEEP])], [], "unexpected_answer"),
        ([Answer(500, {}, [DEEP])], [], "unexpected_answer"),
        ([document({"faces": [{"box": None}]})], [], "unexpected_answer"),
    ],
)
def test_a_request_is_sent_again_only_where_that_helps(
    answers: list[Answer | None], slept: list[float], ends: str
) -> None:
    sleeps = Sleeps()
    retry = RetryPolicy(tries=4, max_wait_s=40)
    with fake_service(in_turn(*answers)) as service, Affect(service.url, retry=retry, sleep=sleeps) as affect:
        assert outcome(affect) == ends
    assert sleeps == slept
    assert len(service.seen) == 1 + len(slept)
    assert {seen.part("file") for seen in service.seen} == {b"picture"}  # whole each time


def test_a_file_is_sent_from_its_beginning_again(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(300_000))
    answers = in_turn(None, refused(429, "overloaded", Retry_After="1"), PICTURE)
    with fake_service(answers) as service, Affect(service.url, sleep=Sleeps()) as affect:
        affect.frame(path)
    assert [len(seen.part("file") or b"") for seen in service.seen] == [300_000] * 3


@pytest.mark.parametrize(
    ("value", "slept"), [("Thu, 01 Jan 1970 00:01:50 GMT", [10.0]), ("Thu, 01 Jan 1970 00:00:00 GMT", [0.0])]
)
def test_retry_after_may_be_a_date(value: str, slept: list[float]) -> None:
    sleeps = Sleeps()
    with fake_service(in_turn(refused(429, "overloaded", Retry_After=value), document({"a": 1}))) as service:
        connection = Connection(service.url, None, timeout_s=10, retry=RetryPolicy(), sleep=sleeps, clock=lambda: 100.0)
        assert connection.document(Request("GET", "/models")) == {"a": 1}
        connection.close()
    assert sleeps == slept


def test_nobody_answers() -> None:
    sleeps = Sleeps()
    with Affect(f"http://127.0.0.1:{free_port()}", retry=RetryPolicy(tries=2), sleep=sleeps) as affect:
        assert outcome(affect) == "unreachable"
    assert sleeps == [0.5]


def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    def stopping() -> Iterator[bytes]:
        yield b"{"
        raise BrokenPipeError

    with fake_service(in_turn(Answer(200, {}, stopping()))) as service, Affect(service.url, sleep=Sleeps()) as affect:
        assert outcome(affect) == "connection_lost"
    assert len(service.seen) == 1


def test_a_silent_service_is_given_up() -> None:
    released = threading.Event()

    def waiting(_: Seen) -> None:
        released.wait(10)

    with fake_service(waiting) as service, Affect(service.url, timeout_s=0.05, sleep=Sleeps()) as affect:
        assert outcome(affect) == "timeout"
        released.set()
    assert len(service.seen) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://[::1", ""])
def test_a_wrong_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Affect(url)


@pytest.mark.parametrize("key", ["", "clé", "a-key-from-a-file\n", "a\r\nHost: b"])
def test_a_key_that_no_header_may_have_is_refused_at_once_and_not_told(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the API key is empty, or has characters that no header may have$"):
        Affect(key=key)


def test_an_address_may_have_a_path() -> None:
    with fake_service(in_turn(document(MODELS))) as service, Affect(f"{service.url}/affect/") as affect:
        affect.models()
    assert service.seen[0].path == "/affect/models"


@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", False), ("localhost", False), ("affect.example", True)])
def test_only_what_leaves_this_machine_goes_to_a_proxy(host: str, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_service(in_turn(document(MODELS))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Affect(f"http://{host}:{free_port()}", retry=RetryPolicy(tries=1)) as affect:
            if asked:
                affect.models()
            else:
                with pytest.raises(AffectError, match="unreachable"):
                    affect.models()
    assert len(proxy.seen) == int(asked)


def test_a_file_that_cannot_be_read() -> None:
    with Affect() as affect, pytest.raises(FileNotFoundError):
        affect.frame("/no/such/picture.jpg")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("timeout_s", [math.inf, math.nan, -1, 0, 1e10, "soon"]),
        ("deadline_s", [math.inf, math.nan, -1, 0, 1e10, 10**400]),
        ("tries", [0, 1.5, math.inf, math.nan]),
        ("max_wait_s", [math.inf, math.nan, -1, 1e10]),
    ],
)
def test_times_and_tries_out_of_range_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name}: must be a (finite|whole) number .*, and is {value!r}$"):
            _ = RetryPolicy(**{name: value}) if name in {"tries", "max_wait_s"} else Affect(**{name: value})


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("fps", [math.inf, math.nan, 0, -1], 0.5),
        ("start_s", [math.inf, math.nan, -0.1], 0),
        ("end_s", [math.inf, math.nan, 0], 3),
        ("baseline_s", [math.inf, math.nan, 0], 3),
        ("max_faces", [math.inf, math.nan, 0, 1.5], 3),
        ("min_confidence", [math.inf, math.nan, -0.1, 1.1], 1),
    ],
)
def test_parameters_out_of_range_are_not_sent(name: str, values: list[Any], allowed: Any) -> None:
    with fake_service(in_turn(refused(422, "undecodable_media"))) as service, Affect(service.url) as affect:
        asking: list[Callable[..., object]] = [affect.video, affect.video_answer, affect.job]
        if name in FrameOptions.__optional_keys__:
            asking += [affect.frame, affect.live]
        for ask, value in itertools.product(asking, values):
            with pytest.raises(ValueError, match=f"^{name}: must be .*, and is {value!r}$"):
                ask(b"a video", **{name: value})
        assert service.seen == []
        with pytest.raises(AffectError, match="undecodable_media"):
            affect.video(b"a video", **{name: allowed})


def test_the_client_imports_nothing_that_only_some_functions_need() -> None:
    heavy = {"pandas", "pyarrow", "matplotlib", "pympi", "websockets", "pylsl", "cv2", "numpy"}
    code = "import sys, affect_client.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "client")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "httpx2" in done.stdout.split()
    assert not heavy & set(done.stdout.split())
