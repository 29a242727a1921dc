"""Faults of whole processes: one that is stopped, one that is killed, one whose detector hangs."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from service.app import EXIT_HUNG
from tests.service.media_files import mp4
from tests.service.processes import Supervisor, free_port, service, wait_until_ready

STOPPED_S = float(os.environ.get("STOPPED_S", "3"))
"""How long a process is stopped; any number may be tried."""

STALL_S = 1.0
"""A forward pass and a detection may take so long; a hang of twice as long would end the process."""


@contextmanager
def busy(url: str, picture: bytes) -> Iterator[list[int]]:
    """Two clients that send one picture after another; the statuses of the answers so far, 0 for none."""
    statuses: list[int] = []
    going = True

    def send() -> None:
        while going:
            try:
                answer = httpx2.post(f"{url}/analyze/frame", files={"file": picture}, timeout=20 + STOPPED_S)
                statuses.append(answer.status_code)
            except httpx2.TransportError:
                statuses.append(0)
                time.sleep(0.2)

    with ThreadPoolExecutor(2) as clients:
        sending = [clients.submit(send) for _ in range(2)]
        try:
            yield statuses
        finally:
            going = False
            for each in sending:
                each.result(30 + STOPPED_S)


def wait_for_answers(statuses: list[int], more: int) -> None:
    """Until so many further requests have been answered with 200."""
    wanted, end = statuses.count(200) + more, time.monotonic() + 20
    while statuses.count(200) < wanted:
        assert time.monotonic() < end, statuses
        time.sleep(0.02)


def test_a_process_that_was_stopped_goes_on_where_it_was(tiny_bundle_dir: Path, astronaut_png: bytes) -> None:
    port = free_port()
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_STALL_S": str(STALL_S)}
    with service(**variables, AFFECT_DEVICE="cpu") as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url)
        with busy(url, astronaut_png) as statuses:
            wait_for_answers(statuses, 2)
            process.send_signal(signal.SIGSTOP)  # amid a request: there is always one
            time.sleep(STOPPED_S)
            process.send_signal(signal.SIGCONT)
            wait_for_answers(statuses, 4)
        assert set(statuses) == {200}
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert process.poll() is None


def started_s(url: str) -> float:
    [value] = re.findall(r"^process_start_time_seconds (\S+)$", httpx2.get(f"{url}/metrics").text, re.M)
    return float(value)


def test_a_process_that_was_killed_is_started_again_and_answers(tiny_bundle_dir: Path, astronaut_png: bytes) -> None:
    # Compose's `restart: unless-stopped`, of which tests/deploy makes sure, does what the supervisor does here.
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_DEVICE": "cpu"}
    with Supervisor(**variables) as supervisor:
        wait_until_ready(None, url)
        before_s = started_s(url)
        with busy(url, astronaut_png) as statuses:
            wait_for_answers(statuses, 2)
            supervisor.kill()
            wait_for_answers(statuses, 4)
        assert set(statuses) == {0, 200}  # nothing hung, and nothing was answered wrongly
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert started_s(url) > before_s
        assert supervisor.ended == [-signal.SIGKILL]


HANGING = """
import sys, time, uvicorn
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor

class HangingDetector(FakeDetector):
    def detect(self, frame, **options):
        time.sleep(60)

app = create_app(Settings(stall_s=0.5), HangingDetector(), FakePredictor())
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def test_a_process_whose_detector_hangs_says_so_and_ends(astronaut_png: bytes) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with service("-c", HANGING, str(port)) as process:
        wait_until_ready(process, url)
        answer = httpx2.post(f"{url}/analyze/frame", files={"file": astronaut_png}, timeout=20)
        assert (answer.status_code, answer.json()["detail"]) == (503, "face detection does not answer")
        assert process.wait(20) == EXIT_HUNG


def in_flight(url: str) -> float:
    metrics = httpx2.get(f"{url}/metrics").text
    [value] = re.findall(r'^affect_in_flight\{route="/analyze/video"\} (\S+)$', metrics, re.M)
    return float(value)


def open_uploads(pid: int) -> int:
    """Files that the process has open in its private folder."""
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            targets.append(str(descriptor.readlink()))
    return sum(bool(re.search(r"/affect-uploads-[^/]+/", target)) for target in targets)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see open files")
def test_a_client_that_breaks_off_amid_a_stream_leaves_nothing_behind(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    content = mp4(tmp_path / "long.mp4", [100] * 6000)  # more than is analysed before the client leaves
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_DEVICE": "cpu"}
    with service(**variables) as process:
        wait_until_ready(process, url)
        headers = {"Accept": "application/x-ndjson"}
        with httpx2.stream("POST", f"{url}/analyze/video", files={"file": content}, headers=headers) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith('{"type":"video"')
            assert next(lines).startswith('{"type":"frame"')
            assert (in_flight(url), open_uploads(process.pid) > 0) == (1.0, True)
        end = time.monotonic() + 10
        while in_flight(url) or open_uploads(process.pid):
            assert time.monotonic() < end
            time.sleep(0.02)
        metrics = httpx2.get(f"{url}/metrics").text
        [frames] = re.findall(r'^affect_frames_total\{route="/analyze/video"\} (\S+)$', metrics, re.M)
        assert float(frames) < 6000
