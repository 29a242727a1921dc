"""Injected faults: what the service says while it is ill, and that it recovers."""

import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from model_core.faces.geometry import Crop, Face
from model_core.inference.encoder import Features
from model_core.inference.runtimes import DeviceMemoryError
from service.app import EXIT_HUNG, create_app
from service.scheduling.admission import TURNS_A_RETURN, Ticket, WouldWait
from service.scheduling.lanes import Lane
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import mp4, png
from tests.service.scheduling.clocks import ManualClock, wait_for

FACE = face_at(8, 8, 32)


@contextmanager
def serving(
    settings: Settings, detector: FakeDetector, predictor: FakePredictor, hung: list[bool]
) -> Iterator[TestClient]:
    app = create_app(settings, detector, predictor, on_hang=lambda: hung.append(True))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, level: int = 204) -> Response:
    return client.post("/analyze/frame", files={"file": png(level)})


def metric(client: TestClient, name: str) -> float:
    [value] = re.findall(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.M)
    return float(value)


def test_a_network_that_hangs_is_told_and_one_that_comes_back_is_used_again() -> None:
    predictor, hung = FakePredictor(), []
    with serving(Settings(stall_s=0.3), FakeDetector(FACE), predictor, hung) as client:
        assert post(client).status_code == 200
        predictor.gate.clear()
        answer = post(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.json()["detail"] == "the network does not answer"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, "a forward pass has not ended in time")
        assert client.get("/healthz").status_code == 200
        wait_for(lambda: bool(hung))
        predictor.gate.set()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert post(client).status_code == 200
    assert hung == [True]


def test_a_process_whose_network_hangs_ends_with_a_status_of_its_own() -> None:
    code = "from service.app import end_process; end_process()"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == EXIT_HUNG == 70


class SmallDevice(FakePredictor):
    """Has memory for two faces at a time."""

    def features(self, crops: list[Crop]) -> list[Features]:
        if len(crops) > 2:
            raise DeviceMemoryError("no memory for so many faces")
        return super().features(crops)


def test_a_device_without_memory_for_the_batch_gets_halves() -> None:
    detector, predictor = FakeDetector(*(face_at(8 + i, 8, 32 - i) for i in range(8))), SmallDevice()
    with serving(Settings(), detector, predictor, []) as client:
        assert len(post(client).json()["faces"]) == 8
        assert metric(client, "affect_batch_retries_total") == 3  # one of 8, two of 4
        assert len(post(client).json()["faces"]) == 8
        assert metric(client, "affect_batch_retries_total") == 3  # batches stay small
        assert set(predictor.batches) == {2}


def test_a_device_without_any_memory_is_not_ready() -> None:
    predictor = FakePredictor()
    predictor.failing = DeviceMemoryError("no memory for so many faces")
    with serving(Settings(), FakeDetector(FACE), predictor, []) as client:
        answer = post(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        predictor.failing = None
        assert post(client).status_code == 200


class GatedDetector(FakeDetector):
    """Waits for its gate."""

    def __init__(self, *faces: Face) -> None:
        super().__init__(*faces)
        self.gate = threading.Event()
        self.gate.set()

    def detect(self, *args: Any, **kwargs: Any) -> list[Face]:
        self.gate.wait(10)
        return super().detect(*args, **kwargs)


class ClockedDetector(GatedDetector):
    """Takes 0.08 s by a clock of its own."""

    def __init__(self, clock: ManualClock, *faces: Face) -> None:
        super().__init__(*faces)
        self.clock = clock

    def detect(self, *args: Any, **kwargs: Any) -> list[Face]:
        found = super().detect(*args, **kwargs)
        self.clock.now_s += 0.08
        return found


def test_the_wait_for_detection_is_bounded_too() -> None:
    clock = ManualClock()
    detector, settings = ClockedDetector(clock, FACE), Settings(max_wait_s=0.25, decode_workers=1)
    app = create_app(settings, detector, FakePredictor(), clock=clock)
    with TestClient(app) as client, ThreadPoolExecutor(12) as clients:
        assert post(client).status_code == 200  # from now on a picture is known to take 0.08 s
        detector.gate.clear()
        sent = [clients.submit(post, client) for _ in range(12)]
        # One runs and two wait, 0.24 s together; whoever comes then is expected to wait longer than 0.25 s.
        wait_for(lambda: sum(each.done() for each in sent) == 9)
        refused = [each.result() for each in sent if each.done()]
        assert {answer.status_code for answer in refused} == {429}
        latest_s = 0.3 - 0.125 + 1.5 * TURNS_A_RETURN * 9 * 0.08
        assert all(1 <= int(answer.headers["retry-after"]) <= math.ceil(latest_s) for answer in refused)
        assert refused[0].json()["limit"] == {"name": "AFFECT_MAX_WAIT_S", "value": 0.25}
        detector.gate.set()
        assert [each.result().status_code for each in sent].count(200) == 3  # whoever was let in is answered
        assert post(client).status_code == 200


def test_a_picture_is_judged_again_when_its_faces_have_been_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[Lane, int]] = []

    def costs(ticket: Ticket, units: int) -> None:
        counted.append((ticket.lane, units))
        raise WouldWait(expected_s=9, limit_s=5, retry_s=2.5)

    monkeypatch.setattr(Ticket, "costs", costs)
    with TestClient(create_app(Settings(), FakeDetector(FACE, face_at(40, 8, 16)), FakePredictor())) as client:
        refused = post(client)
    assert counted == [(Lane.INTERACTIVE, 2)]
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "3"
    assert refused.json()["limit"] == {"name": "AFFECT_MAX_WAIT_S", "value": 5}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_detector_that_hangs_is_told_and_one_that_comes_back_is_used_again(workers: int) -> None:
    detector, hung = GatedDetector(FACE), []
    settings = Settings(stall_s=0.5, decode_workers=workers)
    with serving(settings, detector, FakePredictor(), hung) as client, ThreadPoolExecutor(3) as clients:
        assert post(client).status_code == 200
        detector.gate.clear()
        answers = list(clients.map(lambda _: post(client), range(3)))  # one more than threads, at least
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "not_ready")}
        assert answers[0].json()["detail"] == "face detection does not answer"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (
            503,
            "a decoding or a face detection has not ended in time",
        )
        assert post(client).status_code == 503  # at once: no thread is left
        assert metric(client, 'affect_rejected_total{reason="not_ready"}') == 5
        assert client.get("/healthz").status_code == 200
        wait_for(lambda: bool(hung))
        detector.gate.set()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert post(client).status_code == 200
    assert hung == [True] * workers


def test_a_video_whose_detection_hangs_keeps_no_other_thread(tmp_path: Path) -> None:
    detector = GatedDetector(FACE)
    body = mp4(tmp_path / "v.mp4", [200] * 4)
    with serving(Settings(stall_s=0.5), detector, FakePredictor(), []) as client:
        detector.gate.clear()
        answer = client.post("/analyze/video", files={"file": body})
        assert (answer.status_code, answer.json()["detail"]) == (503, "face detection does not answer")
        assert client.post("/analyze/frame", files={"file": b"text"}).status_code == 415  # a thread has seen it
        detector.gate.set()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/analyze/video", files={"file": body}).status_code == 200
