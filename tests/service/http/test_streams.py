"""POST /analyze/video as it comes: NDJSON and CSV, frame by frame, with the numbers of the document."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import TypeAdapter

from model_core.faces.geometry import Crop
from model_core.inference.encoder import Features
from model_core.inference.predictor import Predictor
from service.app import create_app
from service.http import answers
from service.output.schemas import StreamLine
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.test_golden_answers import CASES, clip, serving
from tests.service.media_files import mp4
from tests.tiny_bundles import TinyBackbone, tiny_bundle

NDJSON, CSV = "application/x-ndjson", "text/csv"
FACE = face_at(8, 8, 32)
VIDEOS = [name for name in CASES if name.startswith("video")]


def ask(client: TestClient, content: bytes, accept: str, **params: object) -> Response:
    return client.post("/analyze/video", files={"file": content}, params=params, headers={"accept": accept})


def lines(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == NDJSON
    objects = [json.loads(line) for line in response.text.splitlines()]
    for each in objects:
        TypeAdapter(StreamLine).validate_python(each)  # as it is described
    return objects


def rows(response: Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith(CSV)
    return list(csv.DictReader(io.StringIO(response.text)))


def samples_of_document(document: dict[str, Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """Samples by frame and track."""
    return {(sample["frame"], track["track_id"]): sample for track in document["tracks"] for sample in track["samples"]}


def samples_of_stream(objects: Sequence[dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any]]:
    return {
        (each["frame"], face.pop("track_id")): face | {"frame": each["frame"], "time_s": each["time_s"]}
        for each in objects
        if each["type"] == "frame"
        for face in each["faces"]
    }


def as_row(sample: dict[str, Any]) -> dict[str, object]:
    """A sample of a document under the names of CSV's columns."""
    row: dict[str, object] = {f"box_{name}": value for name, value in sample["box"].items()}
    row |= {f"expression_{name}": value for name, value in sample["expression"]["probabilities"].items()}
    for unit, state in sample["action_units"].items():
        row |= {unit: state["probability"], f"{unit}_active": float(state["active"])}
    quality = sample["quality"] | {"reliable": float(sample["quality"]["reliable"])}
    direct = {name: sample[name] for name in ("frame", "time_s", "detection_confidence", "valence", "arousal")}
    texts = {"expression": sample["expression"]["label"], "reasons": " ".join(sample["quality"]["reasons"]) or "none"}
    return row | sample["pose"] | quality | direct | texts


@pytest.mark.parametrize("name", [name for name in VIDEOS if name != "video_framewise"])
def test_all_three_media_types_hold_the_same_numbers(name: str) -> None:
    with serving() as client:
        document, stream, table = (ask(client, clip(), accept, **CASES[name]) for accept in ("*/*", NDJSON, CSV))
    expected = samples_of_document(document.json())
    objects = lines(stream)
    streamed = samples_of_stream(objects)
    assert streamed.keys() == expected.keys()
    for place, sample in expected.items():
        assert as_row(streamed[place]) == pytest.approx(as_row(sample), abs=1e-6)
    with_faces = [row for row in rows(table) if row["track_id"]]
    assert {(int(row["frame"]), int(row["track_id"])) for row in with_faces} == expected.keys()
    for row in with_faces:
        sample = as_row(expected[int(row["frame"]), int(row.pop("track_id"))])
        for text in ("expression", "reasons"):
            assert row.pop(text) == sample.pop(text)
        assert {name: float(value) for name, value in row.items()} == pytest.approx(sample, abs=1e-6)
    # The summary is the document's, and so is what the file is.
    told = [{name: track[name] for name in ("track_id", "first_s", "last_s")} for track in document.json()["tracks"]]
    assert [{name: track[name] for name in told[0]} for track in objects[-1]["tracks"]] == told
    for track, other in zip(objects[-1]["tracks"], document.json()["tracks"], strict=True):
        for quantity in ("valence", "arousal", "expression_share", "active_share"):
            assert track["summary"][quantity] == pytest.approx(other["summary"][quantity], abs=1e-6)
    video = document.json()["video"]
    assert (objects[-1]["frames_analyzed"], objects[-1]["truncated"]) == (video["frames_analyzed"], video["truncated"])
    assert objects[0]["video"] == {name: video[name] for name in objects[0]["video"]}
    assert objects[0]["model"] == document.json()["model"]


@pytest.mark.parametrize("name", VIDEOS)
def test_every_analysed_frame_is_told_with_faces_or_without(name: str) -> None:
    with serving() as client:
        document = ask(client, clip(), "*/*", **CASES[name]).json()
        frames = [each for each in lines(ask(client, clip(), NDJSON, **CASES[name])) if each["type"] == "frame"]
        table = rows(ask(client, clip(), CSV, **CASES[name]))
    told = [(frame["time_s"], frame["frame"], frame["faces"]) for frame in document["frames"]]
    assert [(each["time_s"], each["frame"], [face["track_id"] for face in each["faces"]]) for each in frames] == told
    assert len(told) == document["video"]["frames_analyzed"]
    by_row = [(float(row["time_s"]), int(row["frame"]), row["track_id"]) for row in table]
    assert by_row == [(time_s, frame, str(track)) for time_s, frame, faces in told for track in faces or [""]]
    if name == "video":
        assert [frame for _, frame, faces in told if not faces] == [10, 11]
        empty = next(row for row in table if row["frame"] == "10")
        assert {column for column, cell in empty.items() if cell} == {"frame", "time_s"}


def test_the_stream_begins_with_the_video_and_ends_with_the_summary(tmp_path: Path, client: TestClient) -> None:
    content = mp4(tmp_path / "a.mp4", [20 + i for i in range(80)])
    objects = lines(ask(client, content, NDJSON, start_s=1.0, end_s=6.0))
    kinds = [each["type"] for each in objects]
    assert (kinds[0], kinds[-1]) == ("video", "summary")
    assert set(kinds[1:-1]) == {"frame", "progress"}
    assert kinds.count("frame") == 50
    progress = [(each["done_s"], each["duration_s"]) for each in objects if each["type"] == "progress"]
    assert progress == [(pytest.approx(done_s), 5.0) for done_s in (1, 2, 3, 4)]
    assert objects[-1]["timings_ms"]["total"] > 0
    assert objects[0]["request_id"]


def test_columns_follow_the_tasks_that_are_answered() -> None:
    with serving() as client:
        [*_, last] = rows(ask(client, clip(), CSV))
        [*_, framewise] = rows(ask(client, clip(), CSV, temporal="off"))
    assert list(last)[:3] == ["frame", "time_s", "track_id"]
    assert {"valence", "expression_contempt", "AU26_active"} <= set(last)
    assert list(framewise) == list(last)


class FailingPredictor(FakePredictor):
    """Works for some passes, then no more."""

    def __init__(self, passes: int, error: Exception | None) -> None:
        super().__init__()
        self.passes, self.error = passes, error

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        if len(self.batches) >= self.passes:
            if self.error is not None:
                raise self.error
            self.gate.clear()
        return super().features(crops)


def failing(passes: int, error: Exception | None) -> tuple[FastAPI, FailingPredictor]:
    predictor = FailingPredictor(passes, error)
    return create_app(Settings(), FakeDetector(FACE), predictor), predictor


def test_an_error_after_the_beginning_is_the_last_object(tmp_path: Path) -> None:
    content = mp4(tmp_path / "a.mp4", [100] * 40)
    app, _ = failing(3, RuntimeError("weights on fire"))
    with TestClient(app, raise_server_exceptions=False) as client:
        *frames, last = lines(ask(client, content, NDJSON))
        metrics = client.get("/metrics").text
        assert list(app.state.context.directory.iterdir()) == []
    assert [each["type"] for each in frames].count("frame") >= 4
    assert (last["type"], last["code"], last["status"]) == ("error", "internal_error", 500)
    assert "fire" not in str(last)
    assert 'affect_rejected_total{reason="internal_error"} 1.0' in metrics
    app, _ = failing(3, RuntimeError("weights on fire"))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = ask(client, content, CSV)
    *_, comment = response.text.splitlines()
    problem = json.loads(comment.removeprefix("# error: "))
    assert (problem["code"], problem["request_id"]) == ("internal_error", response.headers["x-request-id"])


def test_a_document_that_fails_is_a_problem_and_no_half_document(tmp_path: Path) -> None:
    app, _ = failing(3, RuntimeError("weights on fire"))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = ask(client, mp4(tmp_path / "a.mp4", [100] * 40), "application/json")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")


def test_a_deadline_that_passes_amid_a_stream_is_told_there(tmp_path: Path) -> None:
    app, predictor = failing(2, None)
    with TestClient(app, raise_server_exceptions=False) as client:
        headers = {"accept": NDJSON, "X-Request-Timeout-Ms": "4000"}
        content = mp4(tmp_path / "a.mp4", [100] * 40)
        *_, last = lines(client.post("/analyze/video", files={"file": content}, headers=headers))
        predictor.gate.set()
        metrics = client.get("/metrics").text
    assert 'affect_cut_off_total{reason="deadline_exceeded",route="/analyze/video"} 1.0' in metrics
    assert (last["type"], last["code"]) == ("error", "deadline_exceeded")
    assert last["limit"] == {"name": "X-Request-Timeout-Ms", "value": 4.0}


@pytest.mark.parametrize("accept", [NDJSON, CSV])
def test_what_fails_before_the_first_object_is_an_ordinary_problem(client: TestClient, accept: str) -> None:
    response = ask(client, b"hello, world", accept)
    assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


@asynccontextmanager
async def streaming(
    app: FastAPI, body: bytes, accept: str = NDJSON
) -> AsyncIterator[tuple[asyncio.Task[None], "Connection"]]:
    """A request whose client reads as the test lets it."""
    connection = Connection(body)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/analyze/video",
        "raw_path": b"/analyze/video",
        "query_string": b"fps=1000",
        "headers": [(b"content-type", b"video/mp4"), (b"accept", accept.encode())],
        "server": ("t", 80),
        "client": ("t", 1),
        "scheme": "http",
        "root_path": "",
    }
    async with app.router.lifespan_context(app):
        yield asyncio.create_task(app(scope, connection.receive, connection.send)), connection


class Connection:
    """The client's side: it takes the first object, and further ones once it may read."""

    def __init__(self, body: bytes) -> None:
        self._messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        self.status = 0
        self.received = b""
        self.ended = False
        self.first = asyncio.Event()
        self.reads = asyncio.Event()
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        for message in self._messages:
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.received += message.get("body", b"")
        if self.received:
            self.first.set()
            await self.reads.wait()
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)


class CountingDetector(FakeDetector):
    """Counts the frames that it has seen, and tells when there is another."""

    def __init__(self) -> None:
        super().__init__(FACE)
        self.frames = 0
        self.seen = threading.Condition()

    def detect(self, *args: Any, **kwargs: Any) -> list[Any]:
        with self.seen:
            self.frames += 1
            self.seen.notify_all()
        return super().detect(*args, **kwargs)

    def wait_for(self, frames: int) -> None:
        with self.seen:
            assert self.seen.wait_for(lambda: self.frames >= frames, timeout=10)


def test_a_client_that_does_not_read_holds_the_analysis_up(tmp_path: Path) -> None:
    detector = CountingDetector()
    app = create_app(Settings(scan_every_s=0), detector, FakePredictor())
    body = mp4(tmp_path / "a.mp4", [100] * 60)

    async def story() -> None:
        async with streaming(app, body) as (call, client):
            await client.first.wait()
            await asyncio.to_thread(detector.wait_for, 8)
            await asyncio.sleep(0.05)  # nothing more may come, however long one waits
            assert detector.frames == 8  # the chunk that is being sent, and one ahead
            client.reads.set()
            await call
            assert detector.frames == 60
            assert client.received.count(b'"type":"frame"') == 60

    asyncio.run(story())


def test_a_client_that_leaves_ends_the_work(tmp_path: Path) -> None:
    detector = CountingDetector()
    app = create_app(Settings(scan_every_s=0), detector, FakePredictor())
    body = mp4(tmp_path / "a.mp4", [100] * 60)

    async def story() -> str:
        async with streaming(app, body) as (call, client):
            await client.first.wait()
            client.left.set()
            await asyncio.wait_for(call, 60)
            assert list(app.state.context.directory.iterdir()) == []
            return app.state.context.telemetry.render().decode()

    metrics = asyncio.run(story())
    assert 'affect_in_flight{route="/analyze/video"} 0.0' in metrics
    assert 'affect_cut_off_total{reason="client_gone",route="/analyze/video"} 1.0' in metrics
    assert detector.frames <= 8  # of 60


@pytest.mark.parametrize("accept", [NDJSON, CSV, "application/json"])
def test_a_client_that_stops_reading_is_let_go_at_the_time_limit(
    tmp_path: Path, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "FAREWELL_S", 0.1)
    app = create_app(Settings(video_deadline_s=2), FakeDetector(FACE), FakePredictor())

    async def story() -> None:
        async with streaming(app, mp4(tmp_path / "a.mp4", [100] * 6), accept) as (call, client):
            await client.first.wait()
            await asyncio.wait([call], timeout=20)
            assert call.done()
            assert not client.ended

    asyncio.run(story())


@pytest.mark.parametrize("accept", [NDJSON, CSV, "application/json"])
def test_what_draining_cuts_off_is_told_as_such(tmp_path: Path, accept: str) -> None:
    app, predictor = failing(1, None)

    async def story() -> None:
        async with streaming(app, mp4(tmp_path / "a.mp4", [100] * 40), accept) as (call, client):
            client.reads.set()
            while predictor.gate.is_set():
                await asyncio.sleep(0)
            if accept != "application/json":
                await client.first.wait()
            call.cancel()  # as the server does with what outlasts its time
            await asyncio.wait([call], timeout=20)
            predictor.gate.set()
            assert client.ended
            assert client.status == (503 if accept == "application/json" else 200)
            *_, last = client.received.decode().splitlines()
            assert json.loads(last.removeprefix("# error: "))["code"] == "draining"

    asyncio.run(story())


@pytest.mark.parametrize("passes", [0, 3])
def test_a_time_limit_of_somebody_else_is_no_deadline_of_the_request(tmp_path: Path, passes: int) -> None:
    app, _ = failing(passes, TimeoutError("a network folder"))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = ask(client, mp4(tmp_path / "a.mp4", [100] * 40), NDJSON)
    last = json.loads(response.text.splitlines()[-1])
    assert (last["code"], response.status_code) == ("internal_error", 200 if passes else 500)


def test_what_is_unknown_is_absent_and_not_null(tmp_path: Path) -> None:
    bundle = tiny_bundle("axes", "valence_arousal", backbone=TinyBackbone())
    app = create_app(Settings(), FakeDetector(FACE), Predictor([bundle]))
    content = mp4(tmp_path / "a.mp4", [100] * 20)
    with TestClient(app) as client:
        texts = [ask(client, content, accept).text for accept in ("application/json", NDJSON)]
    for text in texts:
        assert "null" not in text
    [track] = json.loads(texts[0])["tracks"]
    assert set(track["summary"]) == {"valence", "arousal"}


def test_a_damaged_file_is_told_in_every_answer(tmp_path: Path) -> None:
    content = clip()
    cut = content[: len(content) * 2 // 3]
    with serving() as client:
        document, stream, table = (ask(client, cut, accept) for accept in ("*/*", NDJSON, CSV))
    assert document.json()["video"]["truncated"]
    assert lines(stream)[-1]["truncated"]
    assert table.text.splitlines()[-1] == "# truncated: the file is damaged and ended early"
