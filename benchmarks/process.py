"""The service as a process of its own, as benchmarks measure it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from model_core.runtimes import RuntimeOptions
from service.__main__ import choose_device, choose_runtime
from service.settings import load_settings

PORT = 8099
URL = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True)
class ServiceProcess:
    """A running `python -m service`."""

    pid: int

    def resident_mb(self) -> float:
        """Resident set size in MB (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def engine_options() -> RuntimeOptions:
    """The engine and the number format to measure: AFFECT_ENGINE and AFFECT_PRECISION, as the service reads them."""
    settings = load_settings()
    return choose_runtime(settings, choose_device(settings.device, settings.engine))


@contextmanager
def running_service(**settings: str) -> Iterator[ServiceProcess]:
    """`python -m service` at URL with some AFFECT_ variables set, until it is ready; ended afterwards."""
    options = engine_options()
    environment = {"PATH": "/usr/bin:/bin", "AFFECT_PORT": str(PORT), "AFFECT_LOG_LEVEL": "warning"}
    environment |= {"AFFECT_ENGINE": options.engine, "AFFECT_PRECISION": options.precision, **settings}
    with subprocess.Popen([sys.executable, "-m", "service"], env=environment) as process:
        try:
            with httpx2.Client() as client:
                _wait_until_ready(client, process)
            yield ServiceProcess(process.pid)
        finally:
            process.terminate()


def _wait_until_ready(client: httpx2.Client, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            if client.get(f"{URL}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.25)
    raise SystemExit("the service did not become ready within 60 s")
