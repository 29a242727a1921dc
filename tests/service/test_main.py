"""`python -m service` as an operator meets it: a process that starts, answers, drains, or says why not."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import torch

from service.__main__ import choose_device
from service.settings import SettingsError


@contextmanager
def service(**variables: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")} | variables
    command = [sys.executable, "-m", "service"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(process: "subprocess.Popen[str]", url: str) -> None:
    for _ in range(200):
        assert process.poll() is None, process.stderr.read()
        try:
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail("not ready within 20 s")


def test_serves_and_drains_on_sigterm(tiny_bundle_dir: Path, astronaut_png: bytes) -> None:
    port = free_port()
    with service(AFFECT_PORT=str(port), AFFECT_BUNDLES=str(tiny_bundle_dir), AFFECT_DEVICE="cpu") as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url)
        answer = httpx2.post(f"{url}/analyze/frame", files={"file": astronaut_png}, timeout=20)
        assert len(answer.json()["faces"]) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = process.stderr.read()
    assert answer.json()["request_id"] in log  # one JSON line a request, with its id
    assert '"route": "/analyze/frame"' in log


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AFFECT_BUNDLES": "nowhere"}, "no bundle 'nowhere'"),
        ({"AFFECT_PROT": "80"}, "did you mean AFFECT_PORT"),
        ({"AFFECT_PORT": "many"}, "AFFECT_PORT"),
        ({"AFFECT_DETECTOR": "eagle"}, "unknown face detector 'eagle'"),
        ({"AFFECT_DEVICE": "cuda:7"}, "AFFECT_DEVICE"),
    ],
    ids=["bundle", "mistyped", "value", "detector", "gpu"],
)
def test_refuses_to_start_with_a_line_that_says_why(variables: dict[str, str], message: str) -> None:
    with service(**variables) as process:
        assert process.wait(30) == 1
        errors = process.stderr.read()
    assert message in errors
    assert "Traceback" not in errors


def test_auto_takes_what_there_is() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="cuda:99"):
        choose_device("cuda:99")
