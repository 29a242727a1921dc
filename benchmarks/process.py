"""The service as a process of its own, as benchmarks measure it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2

from model_core.bundles.bundle import locate_bundle, open_bundle
from model_core.inference.runtimes import RuntimeOptions
from service.loading import choose_device, choose_runtime
from service.settings import load_settings

END_S = 40
"""Longer than a service that drains."""

READY_S = 60.0
"""Longest time in which a service is ready."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


PORT = _free_port()
"""A port that was free when this process began, so that two measurements may run beside each other."""
URL = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True)
class ServiceProcess:
    """A running `python -m service`."""

    pid: int
    url: str

    def resident_mb(self) -> float:
        """Resident set size in MB (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self) -> None:
        """End it at once, as a machine that fails does."""
        os.kill(self.pid, signal.SIGKILL)


def engine_options() -> RuntimeOptions:
    """The engine and the number format to measure, as the service chooses them for the shipped bundle.

    AFFECT_ENGINE and AFFECT_PRECISION decide, as there.
    """
    settings = load_settings()
    manifest = open_bundle(locate_bundle("default")).manifest
    return choose_runtime(settings, choose_device(settings.device, settings.engine), [manifest])


@contextmanager
def running_service(
    folder: Path | None = None,
    port: int = PORT,
    prefix: Sequence[str] = (),
    log: IO[bytes] | None = None,
    ready_s: float = READY_S,
    **settings: str,
) -> Iterator[ServiceProcess]:
    """`python -m service` with some AFFECT_ variables set, until it is ready; ended afterwards.

    It is the service of the checkout in `folder`, by default the current one. `prefix`: a program and its arguments
    that turns into the service, as `nice` does. `log`: a file for its log, by default our standard error.
    `ready_s`: seconds that it may take to be ready.
    """
    options = engine_options()
    environment = {"PATH": "/usr/bin:/bin", "AFFECT_PORT": str(port), "AFFECT_LOG_LEVEL": "warning"}
    environment |= {"AFFECT_ENGINE": options.engine, "AFFECT_PRECISION": options.precision, **settings}
    with child([*prefix, sys.executable, "-m", "service"], environment, folder, log) as process:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client() as client:
            _wait_until_ready(client, process, url, ready_s)
        yield ServiceProcess(process.pid, url)


@contextmanager
def child(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    log: IO[bytes] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not outlive the block, however this ends: a signal to end it becomes SystemExit, too.

    It gets SIGTERM, and SIGKILL if it does not end within END_S. Belongs to the main thread, as signals do. A shell
    starts background jobs with SIGINT ignored, which is inherited: here it is heard again.
    """
    with _signals_raise(), subprocess.Popen(command, env=environment, cwd=folder, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP would end Python at once, with nothing tidied up; an inherited SIG_IGN would hide SIGINT."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    handlers = {signal.SIGTERM: leave, signal.SIGHUP: leave, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(client: httpx2.Client, process: "subprocess.Popen[bytes]", url: str, ready_s: float) -> None:
    end_s = time.monotonic() + ready_s
    while time.monotonic() < end_s:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            if client.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.25)
    raise SystemExit(f"the service did not become ready within {ready_s:g} s")
