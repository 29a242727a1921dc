"""The service as a process of its own, for tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest


@contextmanager
def service(**variables: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")}
    environment |= {"AFFECT_ENGINE": "torch", **variables}  # it starts in a third of OpenVINO's time
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


def wait_until_ready(process: "subprocess.Popen[str]", url: str, path: str = "/readyz") -> None:
    """Ask until the answer is 200; fail where the process has ended."""
    for _ in range(200):
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            if httpx2.get(url + path).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{url}{path} is not ready within 20 s")
