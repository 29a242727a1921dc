import subprocess
import sys
from pathlib import Path

import pytest

from service.machine import ARENAS, free_bytes, memory_limit_bytes

GIB = 1024**3


def machine(root: Path, groups: str, **files: str) -> Path:
    """A machine of 8 GiB by its files; `__` in a name is a slash."""
    for name, text in {"proc__self__cgroup": groups, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)


def test_a_group_limits_memory(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", **{"sys__fs__cgroup__memory.max": f"{4 * GIB}\n"})
    assert memory_limit_bytes(root) == 4 * GIB


def test_the_lowest_of_a_group_and_its_parents_holds(tmp_path: Path) -> None:
    files = {"sys__fs__cgroup__a__memory.max": f"{2 * GIB}\n", "sys__fs__cgroup__a__b__memory.max": "max\n"}
    assert memory_limit_bytes(machine(tmp_path, "0::/a/b\n", **files)) == 2 * GIB


def test_a_group_of_version_1_limits_memory(tmp_path: Path) -> None:
    files = {"sys__fs__cgroup__memory__a__memory.limit_in_bytes": f"{3 * GIB}\n"}
    assert memory_limit_bytes(machine(tmp_path, "3:cpu:/a\n4:memory:/a\n0::/\n", **files)) == 3 * GIB


def test_without_a_limit_the_machine_s_memory_holds(tmp_path: Path) -> None:
    beyond = {"sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n"}  # what version 1 says for none
    assert memory_limit_bytes(machine(tmp_path, "4:memory:/\n", **beyond)) == 8 * GIB
    assert memory_limit_bytes(tmp_path / "elsewhere") == 8 * GIB


def test_free_room_is_what_the_file_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(tmp_path) > 0
    assert free_bytes(tmp_path / "gone") == 0

    class ReadOnly:
        f_flag, f_bavail, f_frsize = 1, 10, 4096

    monkeypatch.setattr("os.statvfs", lambda _: ReadOnly)
    assert free_bytes(tmp_path) == 0
    monkeypatch.setattr(ReadOnly, "f_flag", 0)
    assert free_bytes(tmp_path) == 40960


THREADS = """
import ctypes, threading
from service.machine import keep_little_freed_memory
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def work():
    libc.malloc(100)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
"""Six threads take memory; then the C library writes what it has, an element `heap` for each arena."""


@pytest.mark.parametrize(("call", "shared"), [("keep_little_freed_memory()", True), ("", False)])
def test_threads_keep_little_freed_memory(call: str, shared: bool) -> None:
    code = THREADS.format(call=call)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    arenas = told.count("<heap nr=")
    assert (arenas == ARENAS) == shared
    assert arenas >= ARENAS


LARGE = """
import numpy
from service.machine import LARGE_BYTES, keep_little_freed_memory
{call}
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
numpy.ones(30_000_000, numpy.uint8)  # freed at once
begin = resident_mb()
kept = []
for _ in range(8):
    large = numpy.ones(LARGE_BYTES + 100_000, numpy.uint8)
    kept.append(bytes(1_000))  # lies behind the large block, and does not leave with it
    del large
print(resident_mb() - begin)
"""
"""Once a large block has been freed, the C library takes further ones from its arena."""


@pytest.mark.parametrize(("call", "kept"), [("keep_little_freed_memory()", False), ("", True)])
def test_freed_large_blocks_are_not_kept(call: str, kept: bool) -> None:
    code = LARGE.format(call=call)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (float(told) > 3) == kept


EXEMPT = """
import gc
from service.machine import exempt_loaded_objects
loaded = [[] for _ in range(1000)]
exempt_loaded_objects()
later = [[]]
later.append(later)
del later
print(gc.get_freeze_count() > 1000, gc.collect())
"""


def test_collections_pass_over_what_is_loaded_and_find_later_garbage() -> None:
    told = subprocess.run([sys.executable, "-c", EXEMPT], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "2"]
