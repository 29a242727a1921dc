"""A service that is killed amid a job: the next one ends the job, with the answer of an undisturbed run."""

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx2

from tests.service.media_files import mp4
from tests.service.processes import free_port, service, wait_until_ready

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
"""How often the service is killed amid the job; any number may be tried, since each death is forgiven."""

WAIT_S = 120.0
"""Longest wait for anything."""

NDJSON = "application/x-ndjson"


def state(url: str, location: str) -> str:
    return str(httpx2.get(url + location, timeout=WAIT_S).json()["state"])


def wait_for(url: str, location: str, wanted: str) -> None:
    end = time.monotonic() + WAIT_S
    while state(url, location) != wanted:
        assert time.monotonic() < end, httpx2.get(url + location).text
        time.sleep(0.02)


def forgive_the_death(folder: Path) -> None:
    """Let the service die any number of times. It takes up its job at once, for it sees that its worker is dead."""
    with closing(sqlite3.connect(folder / "jobs.sqlite3")) as connection, connection:
        changed = connection.execute("UPDATE affect_jobs SET deaths = 0 WHERE state = 'running'")
        assert changed.rowcount == 1


def lines(text: str) -> list[dict[str, object]]:
    """The objects of an answer, without what differs from one to the next."""
    differs = ("request_id", "timings_ms")
    return [{k: v for k, v in json.loads(line).items() if k not in differs} for line in text.splitlines()]


def test_a_job_survives_the_service_that_runs_it(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = tmp_path / "jobs"
    content = mp4(tmp_path / "clip.mp4", [100 + number % 50 for number in range(400)])
    variables = {
        "AFFECT_PORT": str(port),
        "AFFECT_BUNDLES": str(tiny_bundle_dir),
        "AFFECT_DEVICE": "cpu",
        "AFFECT_JOBS_DIR": str(folder),
    }
    headers = {"Accept": NDJSON, "Prefer": "respond-async"}
    location = None
    for _ in range(ROUNDS):
        with service(**variables) as process:
            wait_until_ready(process, url)
            if location is None:
                answer = httpx2.post(f"{url}/analyze/video", files={"file": content}, headers=headers, timeout=WAIT_S)
                assert answer.status_code == 202, answer.text
                location = answer.headers["location"]
            wait_for(url, location, "running")
            process.kill()
            process.wait()
        forgive_the_death(folder)
    with service(**variables) as process:
        wait_until_ready(process, url)
        assert location is not None
        wait_for(url, location, "succeeded")
        result = httpx2.get(f"{url}{location}/result", timeout=WAIT_S)
        direct = httpx2.post(
            f"{url}/analyze/video", files={"file": content}, headers={"Accept": NDJSON}, timeout=WAIT_S
        )
        assert lines(result.text) == lines(direct.text)
        assert len(lines(direct.text)) > 400
        assert [path.name for path in folder.glob("*/*")] == [f"{location.removeprefix('/jobs/')}.{ROUNDS + 1}"]
