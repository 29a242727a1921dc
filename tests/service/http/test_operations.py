"""Health, readiness, models, metrics, and what happens between concurrent requests."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import structlog
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from service.app import create_app
from service.http.routes import analyze, operations
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import mp4, png


def metric(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.M)
    assert found, name
    return float(found[1])


def test_healthy_and_ready(client: TestClient, predictor: FakePredictor) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}
    assert predictor.batches == [1]  # a real forward pass


def test_not_ready_when_the_network_fails(client: TestClient, predictor: FakePredictor) -> None:
    predictor.failing = RuntimeError("broken")
    response = client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert client.get("/healthz").status_code == 200


def test_not_ready_without_a_model(settings: Settings) -> None:
    with TestClient(create_app(settings, FakeDetector(), None)) as client:
        assert client.get("/healthz").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/models"),
            client.post("/analyze/frame", files={"file": b""}),
        ):
            assert (response.status_code, response.json()["code"]) == (503, "not_ready")


def test_models_tells_bundles_and_limits(client: TestClient) -> None:
    document = client.get("/models").json()
    [bundle] = document["bundles"]
    assert (bundle["name"], bundle["version"], bundle["labels"][:2]) == ("fake", "7", ["neutral", "happiness"])
    assert bundle["input"]["size"] == 32
    assert (document["device"], document["engine"], document["precision"]) == ("cpu", "torch", "float32")
    assert document["limits"]["AFFECT_MAX_PIXELS"] == 1_000_000
    assert document["limits"]["AFFECT_MAX_UPLOAD_BYTES"] == 2_000_000
    assert document["limits"]["AFFECT_MAX_CONNECTIONS"] == 1000


@pytest.mark.parametrize("route", ["/healthz", "/readyz", "/models", "/metrics"])
def test_parameters_are_refused_where_there_are_none(client: TestClient, route: str) -> None:
    answer = client.get(route, params={"name[]": "affect_jobs"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"].startswith("name[]: ")


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post("/analyze/frame", files={"file": png(204)})
    client.post("/analyze/frame", files={"file": b"x"})
    client.get("/nowhere")
    assert metric(client, 'affect_requests_total{route="/analyze/frame",status="200"}') == 1
    assert metric(client, 'affect_requests_total{route="/analyze/frame",status="415"}') == 1
    assert metric(client, 'affect_requests_total{route="unmatched",status="404"}') == 1
    assert metric(client, 'affect_rejected_total{reason="unsupported_media_type"}') == 1
    assert metric(client, 'affect_predictions_total{expression="happiness"}') == 1
    assert metric(client, "affect_faces_per_frame_sum") == 1
    assert metric(client, 'affect_frames_total{route="/analyze/frame"}') == 1
    assert metric(client, 'affect_in_flight{route="/analyze/frame"}') == 0
    assert (
        metric(client, 'affect_faces_total{reliable="true"}') + metric(client, 'affect_faces_total{reliable="false"}')
        == 1
    )
    assert metric(client, "affect_face_size_pixels_count") == 1
    assert metric(client, "affect_valence_count") == 1
    assert metric(client, "affect_temp_free_bytes") > 0
    assert metric(client, "affect_memory_limit_bytes") > 0
    info = 'bundle="fake",device="cpu",engine="torch",precision="float32",version="7"'
    assert metric(client, f"affect_model_info{{{info}}}") == 1


def test_waits_are_told_by_lane_and_beside_their_limits(client: TestClient, tmp_path: Path) -> None:
    client.post("/analyze/frame", files={"file": png(204)})
    client.post("/analyze/video", files={"file": mp4(tmp_path / "clip.mp4", [100, 200])})
    assert metric(client, 'affect_queue_wait_seconds_count{lane="interactive"}') == 1
    assert metric(client, 'affect_queue_wait_seconds_count{lane="bulk"}') == 2
    assert metric(client, 'affect_max_wait_seconds{lane="interactive"}') == Settings().max_wait_s
    assert metric(client, 'affect_max_wait_seconds{lane="bulk"}') == Settings().max_video_wait_s


def test_sixteen_clients_share_batches_and_get_their_own_answers() -> None:
    predictor = FakePredictor(seconds=0.02)
    app = create_app(Settings(), FakeDetector(face_at(8, 8, 32)), predictor)

    async def run() -> list[float]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):

            async def ask(level: int) -> float:
                response = await client.post("/analyze/frame", files={"file": png(level)})
                return response.json()["faces"][0]["valence"]

            return await asyncio.gather(*(ask(10 * i + 50) for i in range(16)))

    assert asyncio.run(run()) == pytest.approx([(10 * i + 50) / 255 for i in range(16)])
    assert sum(predictor.batches) == 16
    assert max(predictor.batches) > 1


def twenty_at_once(headers: dict[str, str]) -> list[httpx.Response]:
    """The answers to 20 pictures of 50 ms each, where a picture waits for a tenth of a second at most."""
    predictor = FakePredictor(seconds=0.05)
    app = create_app(Settings(max_wait_s=0.1, max_batch=1), FakeDetector(face_at(8, 8, 32)), predictor)

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as client,
        ):
            await client.post("/analyze/frame", files={"file": png(100)})  # the batcher learns how long an item takes
            return await asyncio.gather(*(client.post("/analyze/frame", files={"file": png(100)}) for _ in range(20)))

    return asyncio.run(run())


def test_a_full_queue_says_when_to_come_back() -> None:
    responses = twenty_at_once({})
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.json()["code"] == "overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["limit"] == {"name": "AFFECT_MAX_WAIT_S", "value": 0.1}


def test_a_client_with_time_waits_for_longer_than_others() -> None:
    assert {response.status_code for response in twenty_at_once({"X-Request-Timeout-Ms": "50000"})} == {200}


def test_a_refused_upload_is_not_read_and_a_video_may_wait_longer() -> None:
    predictor = FakePredictor(seconds=0.1)
    app = create_app(Settings(max_wait_s=0.05, max_batch=1), FakeDetector(face_at(8, 8, 32)), predictor)
    read: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"no media at all"

    async def run() -> tuple[int, int]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            frame = {"files": {"file": png(100)}}
            telemetry = app.state.context.telemetry
            await client.post("/analyze/frame", **frame)  # from now on a picture is known to take 0.1 s at least
            predictor.gate.clear()
            load = [asyncio.create_task(client.post("/analyze/frame", **frame)) for _ in range(2)]
            while 'affect_in_flight{route="/analyze/frame"} 2.0' not in telemetry.render().decode():
                await asyncio.sleep(0)
            refused = await client.post("/analyze/frame", content=body(), headers={"content-type": "image/png"})
            assert read == []
            video = await client.post("/analyze/video", content=body(), headers={"content-type": "video/mp4"})
            predictor.gate.set()
            await asyncio.gather(*load)
            return refused.status_code, video.status_code

    assert asyncio.run(run()) == (429, 415)
    assert read == [True]


def test_a_late_answer_is_a_504() -> None:
    predictor = FakePredictor(seconds=0.5)
    settings = Settings(deadline_s=0.05)
    with TestClient(create_app(settings, FakeDetector(face_at(8, 8, 32)), predictor)) as client:
        response = client.post("/analyze/frame", files={"file": png(100)})
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        assert response.json()["limit"] == {"name": "AFFECT_DEADLINE_S", "value": 0.05}


def test_a_client_may_ask_for_less_time(client: TestClient, predictor: FakePredictor) -> None:
    predictor.seconds = 0.3
    files = {"file": png(100)}
    response = client.post("/analyze/frame", files=files, headers={"X-Request-Timeout-Ms": "50"})
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert response.json()["limit"] == {"name": "X-Request-Timeout-Ms", "value": 0.05}
    assert client.post("/analyze/frame", files=files, headers={"X-Request-Timeout-Ms": "5000"}).status_code == 200
    for wrong in ("0", "-5", "soon", "1.5"):
        response = client.post("/analyze/frame", files=files, headers={"X-Request-Timeout-Ms": wrong})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")


def test_openapi_describes_the_routes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/analyze/frame", "/analyze/video", "/healthz", "/readyz", "/models", "/metrics"} <= set(document["paths"])
    frame = document["paths"]["/analyze/frame"]["post"]
    pictures = {f"image/{name}" for name in ("jpeg", "png", "webp", "heic", "avif", "bmp")}
    assert set(frame["requestBody"]["content"]) == {"multipart/form-data", *pictures}
    assert {item.get("name") for item in frame["parameters"]} >= {"max_faces", "X-Request-Timeout-Ms"}
    assert set(frame["responses"]["200"]["headers"]) == {"Server-Timing", "X-Request-ID"}
    assert set(frame["responses"]["422"]["content"]) == {"application/problem+json"}
    assert "Retry-After" in frame["responses"]["429"]["headers"]


def test_a_busy_service_is_ready(settings: Settings) -> None:
    predictor = FakePredictor(seconds=0.05)
    app = create_app(Settings(max_wait_s=0.05, max_batch=1), FakeDetector(face_at(8, 8, 32)), predictor)

    async def run() -> set[int]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            await client.post("/analyze/frame", files={"file": png(100)})
            load = [asyncio.create_task(client.post("/analyze/frame", files={"file": png(100)})) for _ in range(12)]
            statuses = {(await client.get("/readyz")).status_code for _ in range(5)}
            await asyncio.gather(*load)
            return statuses

    assert asyncio.run(run()) == {200}


def test_work_of_a_client_that_left_is_not_done(tmp_path: Path) -> None:
    predictor = FakePredictor(seconds=0.05)
    app = create_app(Settings(), FakeDetector(face_at(8, 8, 32)), predictor)
    body = mp4(tmp_path / "v.mp4", [100] * 200)

    async def run() -> None:
        left = asyncio.Event()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, object]:
            for message in messages:
                return message
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            pass

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/analyze/video",
            "raw_path": b"/analyze/video",
            "query_string": b"",
            "headers": [(b"content-type", b"video/mp4")],
            "server": ("t", 80),
            "client": ("t", 1),
            "scheme": "http",
            "root_path": "",
        }
        async with app.router.lifespan_context(app):
            call = asyncio.create_task(app(scope, receive, send))
            while not predictor.batches:
                await asyncio.sleep(0.01)
            left.set()
            await asyncio.wait_for(call, 60)
            metrics = app.state.context.telemetry.render().decode()
            assert 'affect_requests_total{route="/analyze/video",status="499"} 1.0' in metrics
            assert 'affect_rejected_total{reason="client_gone"} 1.0' in metrics

    asyncio.run(run())
    assert 0 < len(predictor.batches) < 10  # of 50 chunks


def test_no_request_is_sent_to_a_thread_before_its_route() -> None:
    def called(dependant: Dependant) -> Iterator[Callable[..., object]]:
        for each in dependant.dependencies:
            yield from (each.call, *called(each))

    routes = [route for route in (*analyze.router.routes, *operations.router.routes) if isinstance(route, APIRoute)]
    dependencies = {call for route in routes for call in called(route.dependant)}
    assert len(dependencies) >= 3
    assert all(map(inspect.iscoroutinefunction, dependencies))
    assert all(inspect.iscoroutinefunction(route.endpoint) for route in routes)


def test_head_is_get_without_its_body_wherever_get_is(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    documented = [path for path, operations in app.openapi()["paths"].items() if "get" in operations]
    assert len(documented) >= 6
    for path in (*documented, "/", "/docs", "/page/app.js", "/openapi.json", "/nowhere", "/healthz/"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"], path
        if path != "/metrics":  # which counts the first of the two
            assert len(head.headers["content-length"]) == len(got.headers["content-length"]), path


def test_head_is_refused_where_get_is(client: TestClient) -> None:
    response = client.head("/analyze/frame")
    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")
    assert client.post("/healthz").headers["allow"] == "GET, HEAD"
    assert client.delete("/").headers["allow"] == "GET, HEAD"


def test_head_is_counted_and_logged_as_what_it_is(client: TestClient) -> None:
    with structlog.testing.capture_logs() as log:
        client.head("/models")
    assert [(entry["method"], entry["route"], entry["status"]) for entry in log] == [("HEAD", "/models", 200)]
    assert metric(client, 'affect_requests_total{route="/models",status="200"}') == 1
