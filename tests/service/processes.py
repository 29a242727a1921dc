"""The service as a process of its own, for tests."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

SERVICE = ("-m", "service")


@contextmanager
def service(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """`python` with the arguments of the service, or with others, and with AFFECT_ variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")}
    command = [sys.executable, *(arguments or SERVICE)]
    with subprocess.Popen(command, env=environment | variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Supervisor:
    """Starts the service again whenever it ends, as a container's restart policy does."""

    def __init__(self, **variables: str) -> None:
        self.ended: list[int] = []
        self._variables = variables
        self._stopped = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.is_set():
            with service(**self._variables) as self._process:
                if self._stopped.is_set():
                    return
                self._process.communicate()
                self.ended.append(self._process.returncode)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def __enter__(self) -> "Supervisor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.kill()
        self._thread.join()


def wait_until_ready(process: "subprocess.Popen[str] | None", url: str, path: str = "/readyz") -> None:
    """Ask until the answer is 200; fail where the process, if it is known, has ended."""
    with httpx2.Client() as client:  # it takes 30 ms to make
        for _ in range(200):
            assert process is None or process.poll() is None, process.stderr and process.stderr.read()
            try:
                if client.get(url + path).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
    pytest.fail(f"{url}{path} is not ready within 20 s")
