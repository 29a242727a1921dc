"""Jobs as clients see them: from `Prefer: respond-async` to the result, and away."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from model_core.faces.geometry import Crop
from model_core.inference.encoder import Features
from model_core.inference.runtimes import DeviceMemoryError
from service.app import create_app
from service.http.jobs import VideoJobs
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import mp4, noisy, video

NDJSON, CSV = "application/x-ndjson", "text/csv"
ASYNC = {"Prefer": "respond-async"}
KEYS = ("first-key-0123456", "second-key-012345")


@contextmanager
def serving(folder: Path, predictor: FakePredictor | None = None, **settings: Any) -> Iterator[TestClient]:
    options = {"max_upload_bytes": 1000, "job_max_upload_bytes": 2_000_000, "jobs_dir": folder / "jobs"} | settings
    app = create_app(Settings(**options), FakeDetector(face_at(8, 8, 32)), predictor or FakePredictor())
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return mp4(tmp_path / "clip.mp4", [100] * 30)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(tmp_path) as client:
        yield client


def post(client: TestClient, clip: bytes, accept: str = "application/json", **headers: str) -> Response:
    return client.post("/analyze/video", files={"file": clip}, headers=ASYNC | {"Accept": accept} | headers)


def job_of(client: TestClient, clip: bytes, accept: str = "application/json", **headers: str) -> str:
    response = post(client, clip, accept, **headers)
    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async"
    return str(response.headers["location"])


def ended(client: TestClient, location: str, **headers: str) -> dict[str, Any]:
    """The job once it has ended; the test's own time limit is that of its requests."""
    for _ in range(3000):
        status: dict[str, Any] = client.get(location, headers=headers).json()
        if status["state"] not in ("queued", "running"):
            return status
        threading.Event().wait(0.01)
    pytest.fail(f"{location} does not end")


def without_times(answer: str, media_type: str) -> list[Any]:
    """The lines or the document of an answer, without the request's id and the seconds it took."""
    if media_type == CSV:
        return answer.splitlines()
    lines = [json.loads(line) for line in answer.splitlines()] if media_type == NDJSON else [json.loads(answer)]
    return [{name: value for name, value in line.items() if name not in ("request_id", "timings_ms")} for line in lines]


@pytest.mark.parametrize("media_type", ["application/json", NDJSON, CSV])
def test_a_job_gives_the_answer_of_the_request(tmp_path: Path, clip: bytes, media_type: str) -> None:
    with serving(tmp_path, max_upload_bytes=2_000_000) as client:
        direct = client.post("/analyze/video?fps=5", files={"file": clip}, headers={"Accept": media_type})
        accepted = client.post("/analyze/video?fps=5", files={"file": clip}, headers=ASYNC | {"Accept": media_type})
        location = accepted.headers["location"]
        assert (accepted.json()["state"], accepted.json()["progress"]) == ("queued", 0)
        status = ended(client, location)
        result = client.get(f"{location}/result")
        head = client.head(f"{location}/result")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == result.headers["content-length"]
    assert (status["state"], status["progress"], status["media_type"]) == ("succeeded", 1, media_type)
    assert result.headers["content-type"] == direct.headers["content-type"]
    assert int(result.headers["content-length"]) == len(result.content)
    assert without_times(result.text, media_type) == without_times(direct.text, media_type)
    assert len(without_times(result.text, NDJSON if media_type == NDJSON else CSV)) > 0


BEYOND = ["9" * 18, "9" * 19, "18446744073709551616", "1" + "0" * 5000]
"""Positions beyond the end of every file."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str, bytes]]:
    """A client, the address of a job's table, and the table."""
    folder = tmp_path_factory.mktemp("table")
    with serving(folder) as client:
        location = job_of(client, mp4(folder / "clip.mp4", [100] * 30), CSV)
        ended(client, location)
        whole = client.get(f"{location}/result")
        assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
        assert len(whole.content) > 1000
        yield client, f"{location}/result", whole.content


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-99", slice(10, 100)),
        ("Bytes= 10-99 ", slice(10, 100)),
        ("bytes=990-1000000", slice(990, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-1000000", slice(0, None)),
        *((f"bytes=990-{digits}", slice(990, None)) for digits in BEYOND),
        *((f"bytes=-{digits}", slice(0, None)) for digits in BEYOND),
        ("bytes=" + "0" * 5000 + "10-" + "0" * 5000 + "99", slice(10, 100)),
    ],
)
def test_a_range_of_a_result_is_given(table: tuple[TestClient, str, bytes], asked: str, part: slice) -> None:
    client, address, whole = table
    answer = client.get(address, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, whole[part])
    first = part.indices(len(whole))[0]
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["content-type"].startswith(CSV)


@pytest.mark.parametrize("path", ["", "/result"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_parameter_that_there_is_not_is_refused(table: tuple[TestClient, str, bytes], path: str, method: str) -> None:
    client, address, whole = table
    job = address.removesuffix("/result")
    if (method, path) != ("DELETE", "/result"):
        answer = client.request(method, f"{job}{path}?dry_run=true")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert client.get(address).content == whole


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=1000000-", "bytes=-0", f"bytes={'9' * 18}-{'9' * 19}"),
        *(f"bytes={digits}-" for digits in BEYOND),
        *(f"bytes={digits}-{digits}" for digits in BEYOND),
    ],
)
def test_a_range_beyond_the_result_is_refused(table: tuple[TestClient, str, bytes], asked: str) -> None:
    client, address, whole = table
    answer = client.get(address, headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "bytes=9-5", f"bytes={'9' * 20}-{'9' * 19}", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=²-", ""],
)
def test_what_is_no_single_range_is_ignored(table: tuple[TestClient, str, bytes], asked: str) -> None:
    client, address, whole = table
    answer = client.get(address, headers={"Range": asked.encode("latin-1")})
    assert (answer.status_code, answer.content) == (200, whole)


def test_a_range_is_of_the_result_that_the_client_knows(table: tuple[TestClient, str, bytes]) -> None:
    client, address, whole = table
    etag = client.head(address).headers["etag"]
    for known, status in ((etag, 206), ('"another"', 200), (f"W/{etag}", 200)):
        answer = client.get(address, headers={"Range": "bytes=5-8", "If-Range": known})
        assert (answer.status_code, len(answer.content)) == (status, 4 if status == 206 else len(whole))
    head = client.head(address, headers={"Range": "bytes=5-8"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))


def test_the_result_is_the_original_requests(client: TestClient, clip: bytes) -> None:
    location = job_of(client, clip, **{"X-Request-ID": "r-7"})
    ended(client, location)
    result = client.get(f"{location}/result", headers={"X-Request-ID": "r-8"})
    assert (result.json()["request_id"], result.headers["x-request-id"]) == ("r-7", "r-8")


def test_no_upload_outlives_its_job(tmp_path: Path, client: TestClient, clip: bytes) -> None:
    location = job_of(client, clip)
    ended(client, location)
    names = sorted(path.relative_to(tmp_path / "jobs").as_posix() for path in (tmp_path / "jobs").rglob("*/*"))
    assert names == [f"results/{location.removeprefix('/jobs/')}.1"]
    assert client.delete(location).status_code == 204
    assert list((tmp_path / "jobs").rglob("*/*")) == []
    for answer in (client.get(location), client.get(f"{location}/result"), client.delete(location)):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_video_that_cannot_be_read_fails_its_job(client: TestClient) -> None:
    location = job_of(client, b"hello, world" * 10)
    status = ended(client, location)
    assert (status["state"], status["problem"]["code"]) == ("failed", "unsupported_media_type")
    result = client.get(f"{location}/result", headers={"X-Request-ID": "r-9"})
    assert (result.status_code, result.headers["content-type"]) == (415, "application/problem+json")
    assert result.json() == status["problem"] | {"request_id": "r-9"}


@pytest.mark.parametrize("media_type", ["application/json", NDJSON, CSV, "video/mp4"])
def test_a_job_tells_that_its_file_ended_early(client: TestClient, tmp_path: Path, media_type: str) -> None:
    path = video(tmp_path / "clip.avi", noisy(40), "mpeg4", fps=10)
    whole = path.read_bytes()
    for content, truncated in ((whole, False), (whole[: len(whole) * 3 // 5], True)):
        status = ended(client, job_of(client, content, media_type))
        assert (status["state"], status["truncated"]) == ("succeeded", truncated)


def test_a_job_has_limits_of_its_own(tmp_path: Path, clip: bytes) -> None:
    with serving(tmp_path, job_max_video_s=2) as client:
        problem = ended(client, job_of(client, clip))["problem"]
        assert (problem["code"], problem["limit"]) == ("video_too_long", {"name": "AFFECT_JOB_MAX_VIDEO_S", "value": 2})
        assert client.get("/models").json()["limits"]["AFFECT_JOB_MAX_VIDEO_S"] == 2
    with serving(tmp_path, job_max_upload_bytes=500) as client:
        answer = post(client, clip)
        assert (answer.status_code, answer.json()["limit"]["name"]) == (413, "AFFECT_JOB_MAX_UPLOAD_BYTES")
        assert list((tmp_path / "jobs" / "uploads").iterdir()) == []


def test_too_many_waiting_jobs_are_refused_before_their_upload(tmp_path: Path, clip: bytes) -> None:
    predictor = FakePredictor()
    predictor.gate.clear()
    with serving(tmp_path, predictor, job_max_queued=1) as client:
        running = job_of(client, clip)
        while client.get(running).json()["state"] == "queued":
            threading.Event().wait(0.01)
        waiting = job_of(client, clip, **{"Idempotency-Key": "k"})
        answer = post(client, clip)
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "overloaded", "60")
        assert answer.json()["limit"] == {"name": "AFFECT_JOB_MAX_QUEUED", "value": 1}
        assert job_of(client, clip, **{"Idempotency-Key": "k"}) == waiting
        predictor.gate.set()
        assert ended(client, waiting)["state"] == "succeeded"


def test_a_job_that_runs_is_cancelled(tmp_path: Path, clip: bytes) -> None:
    predictor = FakePredictor()
    predictor.gate.clear()
    with serving(tmp_path, predictor) as client:
        location = job_of(client, clip)
        while client.get(location).json()["state"] == "queued":
            threading.Event().wait(0.01)
        early = client.get(f"{location}/result")
        assert (early.status_code, early.json()["detail"]) == (404, "the job has no result: it is running")
        assert client.delete(location).status_code == 204
        predictor.gate.set()
        assert client.get(location).json()["state"] == "cancelled"
        assert ended(client, job_of(client, clip))["state"] == "succeeded"  # the worker is free again
        assert 'affect_jobs{state="cancelled"} 1.0' in client.get("/metrics").text
        assert client.delete(location).status_code == 204
        assert client.get(location).status_code == 404
    assert len(list((tmp_path / "jobs").rglob("*/*"))) == 1


def test_what_a_job_asks_is_checked_before_it_is_accepted(tmp_path: Path, client: TestClient, clip: bytes) -> None:
    for query, accept in (("end_s=1&start_s=2", "*/*"), ("columns=fex", "*/*"), ("baseline=auto", NDJSON)):
        answer = client.post(f"/analyze/video?{query}", files={"file": clip}, headers=ASYNC | {"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert post(client, clip, "image/png").status_code == 406
    assert client.post("/analyze/frame", files={"file": clip}, headers=ASYNC).status_code == 422
    assert list((tmp_path / "jobs").rglob("*/*")) == []


def test_a_job_is_there_for_the_key_that_made_it(tmp_path: Path, clip: bytes) -> None:
    first, second = ({"X-API-Key": key} for key in KEYS)
    with serving(tmp_path, api_keys=KEYS) as client:
        location = job_of(client, clip, **first, **{"Idempotency-Key": "k"})
        assert ended(client, location, **first)["state"] == "succeeded"
        assert client.get(location).status_code == 401
        for answer in (client.get(location, headers=second), client.get(f"{location}/result", headers=second)):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert client.delete(location, headers=second).status_code == 404
        assert job_of(client, clip, **second, **{"Idempotency-Key": "k"}) != location
        assert client.get(f"{location}/result", headers=first).status_code == 200
    assert not any(key.encode() in path.read_bytes() for path in (tmp_path / "jobs").glob("jobs*") for key in KEYS)


def test_the_same_key_makes_one_job(tmp_path: Path, client: TestClient, clip: bytes) -> None:
    key = {"Idempotency-Key": "upload-1"}
    location = job_of(client, clip, **key)
    assert job_of(client, clip, **key) == location
    ended(client, location)
    assert job_of(client, clip, **key) == location
    other = mp4(tmp_path / "other.mp4", [50] * 30)
    for answer in (
        post(client, other, **key),
        post(client, clip, NDJSON, **key),
        client.post("/analyze/video?fps=3", files={"file": clip}, headers=ASYNC | key),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
    assert job_of(client, clip, **{"Idempotency-Key": "upload-2"}) != location
    assert job_of(client, clip) != job_of(client, clip)
    assert post(client, clip, **{"Idempotency-Key": "two words"}).status_code == 422


def test_without_a_folder_nothing_is_kept(tmp_path: Path, clip: bytes) -> None:
    with serving(tmp_path, jobs_dir=None) as client:
        assert post(client, clip).json()["code"] == "invalid_parameter"
        assert client.get("/jobs/a").status_code == client.delete("/jobs/a").status_code == 404
        assert "AFFECT_JOB_TTL_S" not in client.get("/models").json()["limits"]


class ExhaustedPredictor(FakePredictor):
    """Its device has no memory left after some faces, until somebody helps."""

    helped = False

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        if not self.helped and sum(self.batches) >= 20:
            raise DeviceMemoryError("out of memory")
        return super().features(crops)


@pytest.mark.parametrize("media_type", ["application/json", NDJSON, CSV, "video/mp4"])
def test_a_job_goes_on_where_an_attempt_has_ended(
    tmp_path: Path, clip: bytes, media_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.VideoJobs", partial(VideoJobs, checkpoint_s=0))
    predictor = ExhaustedPredictor()
    with serving(tmp_path, predictor, max_upload_bytes=2_000_000) as client:
        location = job_of(client, clip, media_type)
        with closing(sqlite3.connect(tmp_path / "jobs" / "jobs.sqlite3")) as table:
            while not table.execute("SELECT * FROM affect_jobs WHERE not_before_s > 0").fetchall():
                threading.Event().wait(0.01)
            predictor.helped = True
            with table:
                table.execute("UPDATE affect_jobs SET not_before_s = 0")
        assert ended(client, location)["state"] == "succeeded"
        assert 30 <= sum(predictor.batches) < 40
        if media_type != "video/mp4":
            result = client.get(f"{location}/result").text
            direct = client.post("/analyze/video", files={"file": clip}, headers={"Accept": media_type}).text
            assert without_times(result, media_type) == without_times(direct, media_type)
        [left] = (tmp_path / "jobs" / "results").iterdir()
        assert left.name == f"{location.removeprefix('/jobs/')}.2"


def test_a_job_outlives_its_process(tmp_path: Path, clip: bytes) -> None:
    predictor = FakePredictor()
    predictor.gate.clear()
    with serving(tmp_path, predictor) as client:
        location = job_of(client, clip)
        waiting = job_of(client, clip)
        while client.get(location).json()["state"] == "queued":
            threading.Event().wait(0.01)
        assert client.get(waiting).json()["state"] == "queued"  # one at a time
        predictor.gate.set()
    with serving(tmp_path) as client:
        assert ended(client, location)["state"] == ended(client, waiting)["state"] == "succeeded"
        assert client.get(f"{location}/result").json()["video"]["frames_analyzed"] == 30
