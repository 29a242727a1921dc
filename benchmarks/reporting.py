"""Reports of benchmarks: percentiles, markdown tables, and the circumstances of a measurement."""

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from model_core.bundles.bundle import MANIFEST, locate_bundle

PERCENTILES = (50, 95, 99)
_PACKAGES = ("torch", "openvino", "numpy", "opencv-python-headless")


def percentiles_ms(seconds: Sequence[float]) -> tuple[float, ...]:
    """The PERCENTILES of durations in seconds, in milliseconds, linear between neighbours; NaN without durations."""
    if not seconds:
        return (float("nan"),) * len(PERCENTILES)
    return tuple(float(1000 * value) for value in np.percentile(seconds, PERCENTILES))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table; floats get three significant digits. ValueError where a row is not as long as the header."""
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"every row must have {len(header)} cells")
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def section(title: str, *paragraphs: str) -> str:
    """A markdown section."""
    return "\n\n".join([f"## {title}", *paragraphs]) + "\n"


def circumstances(threads: int, bundle: str = "default") -> str:
    """Date, machine, versions, the bundle's weights and the thread count, as a markdown list."""
    manifest = json.loads((locate_bundle(bundle) / MANIFEST).read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    lines = (
        f"date: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine: {_processor()}, {_usable_cores()} usable cores, {platform.system()} {platform.machine()}",
        f"load average at the start: {os.getloadavg()[0]:.2f}",
        f"versions: Python {platform.python_version()}, {versions}",
        f"weights: {manifest['name']}, version {manifest['version']}",
        f"threads of a forward pass: {threads}",
    )
    return "\n".join(f"- {line}" for line in lines)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
