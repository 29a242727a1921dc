import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import process
from benchmarks.process import child

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = (
    "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path({!r}).touch(); time.sleep(60)"
)
PARENT = f"""
import asyncio
from benchmarks.process import child

async def measure(pid):
    print(pid, flush=True)  # not earlier: a signal while asyncio starts can end it in other ways
    await asyncio.sleep(60)

with child({SLEEPER!r}, {{}}) as process:
    asyncio.run(measure(process.pid))
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


BACKGROUND = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
"""Starts a command as `nohup COMMAND &` does in a shell without job control: both signals are ignored."""


@pytest.mark.parametrize("start", [(), BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_child_as_well(number: signal.Signals, start: tuple[str, ...]) -> None:
    command = [*start, sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.send_signal(number)
        status = parent.wait(20)
    assert not lives(pid)
    assert status == (-number if number == signal.SIGINT else 128 + number)


def test_an_exception_ends_the_child_as_well() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ZeroDivisionError), child(SLEEPER, {}) as sleeper:
        raise ZeroDivisionError
    assert sleeper.returncode == -signal.SIGTERM
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "END_S", 0.1)
    deaf = tmp_path / "deaf"
    with child([sys.executable, "-c", STUBBORN.format(str(deaf))], {}) as stubborn:
        while not deaf.exists():
            assert stubborn.poll() is None
            time.sleep(0.01)
    assert stubborn.returncode == -signal.SIGKILL
