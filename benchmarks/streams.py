"""`python -m benchmarks.streams`: answers that come frame by frame - how soon, at what cost of memory, and who leaves.

Three measurements of a service process: a long clip of one face as NDJSON (the first object after the upload's end,
resident memory after a minute of the clip and at its end), a clip of 64 faces a frame, and a client that is killed amid
a stream (how long until nothing of its request is left).
"""

import argparse
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import httpx2
import numpy as np
import torch
from skimage import data

from benchmarks.clip import write_clip
from benchmarks.process import URL, ServiceProcess, engine_options, running_service
from benchmarks.reporting import circumstances, section, table
from model_core.faces.geometry import Frame

FPS = 10
CROWD_FPS = 5
WIDTH, HEIGHT = 1280, 720
ROUTE = "/analyze/video"
NDJSON = {"Accept": "application/x-ndjson"}

LIMITS = {
    "AFFECT_MAX_FRAMES": "100000",
    "AFFECT_MAX_VIDEO_S": "36000",
    "AFFECT_MAX_UPLOAD_BYTES": "2000000000",
    "AFFECT_VIDEO_DEADLINE_S": "36000",
}


@dataclass
class Streamed:
    """Measurements of one NDJSON answer."""

    first_s: float = float("nan")
    """Seconds from the end of the upload to the first object."""
    total_s: float = float("nan")
    """Seconds from the end of the upload to the end of the answer."""
    frames: int = 0
    faces: int = 0
    resident_mb: list[tuple[float, float]] = field(default_factory=list)
    """Resident memory of the service at times of the clip, in MB and seconds."""


class Upload:
    """A file's bytes for a request body; remembers when the last of them was taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ended = float("nan")

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(1 << 16):
                yield piece
        self.ended = time.perf_counter()


def stream(service: ServiceProcess, path: Path, fps: int, looks_s: tuple[float, ...]) -> Streamed:
    """Send a clip, read its answer object by object, and look at the service's memory at these times of the clip."""
    seen = Streamed()
    upload = Upload(path)
    looks = list(looks_s)
    headers = {**NDJSON, "Content-Type": "video/mp4"}
    with (
        httpx2.Client(timeout=3600) as client,
        client.stream("POST", f"{URL}{ROUTE}?fps={fps}&max_faces=64", content=iter(upload), headers=headers) as answer,
    ):
        answer.raise_for_status()
        for line in answer.iter_lines():
            each = json.loads(line)
            if each["type"] == "video":
                seen.first_s = time.perf_counter() - upload.ended
            elif each["type"] == "frame":
                seen.frames += 1
                seen.faces += len(each["faces"])
                if looks and each["time_s"] >= looks[0]:
                    seen.resident_mb.append((looks.pop(0), service.resident_mb()))
            elif each["type"] == "error":
                raise SystemExit(f"the stream failed: {each}")
    seen.total_s = time.perf_counter() - upload.ended
    return seen


def crowd(number: int) -> Frame:
    """Return a frame, uint8 [HEIGHT, WIDTH, 3] BGR, of 64 faces in eight rows, which sway a little by its number."""
    picture = data.astronaut()[0:200, 124:324, ::-1]
    tile = cv2.resize(np.ascontiguousarray(picture), (90, 90), interpolation=cv2.INTER_AREA)
    frame = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    for place in range(64):
        x = 40 + 155 * (place % 8) + round(8 * np.sin(number / 7 + place))
        y = 90 * (place // 8)
        frame[y : y + 90, x : x + 90] = tile
    return frame


def write_crowd(path: Path, frames: int) -> None:
    """An mp4 of the crowd."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), CROWD_FPS, (WIDTH, HEIGHT))
    for number in range(frames):
        writer.write(crowd(number))
    writer.release()


def metric(client: httpx2.Client, name: str) -> float:
    """A value of the service's /metrics."""
    text = client.get(f"{URL}/metrics").raise_for_status().text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else float("nan")


def open_files(service: ServiceProcess) -> int:
    """Return the number of files that the service has open in its private folder, which is one of them (Linux)."""
    count = 0
    for descriptor in Path(f"/proc/{service.pid}/fd").iterdir():
        try:
            count += "/affect-" in str(descriptor.readlink())
        except OSError:
            continue  # closed since it was listed
    return count


def seconds_until(condition: Callable[[], bool], most_s: float) -> float:
    """Seconds until a condition holds; infinite where it does not within `most_s`."""
    started = time.perf_counter()
    while time.perf_counter() - started < most_s:
        if condition():
            return time.perf_counter() - started
        time.sleep(0.01)
    return float("inf")


@contextmanager
def reading_curl(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A curl that has got the beginning of its NDJSON answer."""
    command = ["curl", "-sN", "-H", "Accept: application/x-ndjson", "-F", f"file=@{path}", f"{URL}{ROUTE}?fps={FPS}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        try:
            assert curl.stdout is not None
            for _ in range(20):
                curl.stdout.readline()
            yield curl
        finally:
            curl.kill()


def killed(service: ServiceProcess, path: Path) -> tuple[float, float]:
    """Kill a client amid its stream: seconds until no request is in flight, and until its upload is closed."""
    in_flight = f'affect_in_flight{{route="{ROUTE}"}}'
    before = open_files(service)
    with httpx2.Client() as client, reading_curl(path) as curl:
        if metric(client, in_flight) != 1 or open_files(service) == before:
            raise SystemExit("the clip was over before its client could be killed")
        curl.send_signal(signal.SIGKILL)
        left_s = seconds_until(lambda: metric(client, in_flight) == 0, 10)
        return left_s, left_s + seconds_until(lambda: open_files(service) == before, 10)


def measure(clip_s: float, crowd_s: float) -> str:
    """The markdown section."""
    looks = (min(60.0, clip_s / 10), clip_s - 2 / FPS)
    crowd_looks = (crowd_s / 6, crowd_s - 2 / CROWD_FPS)
    with tempfile.TemporaryDirectory() as folder:
        clip, crowd = Path(folder) / "clip.mp4", Path(folder) / "crowd.mp4"
        write_clip(clip, round(clip_s * FPS), FPS)
        write_crowd(crowd, round(crowd_s * CROWD_FPS))
        with running_service(AFFECT_THREADS=str(torch.get_num_threads()), **LIMITS) as service:
            stream(service, crowd, 1, ())  # warms up
            rows = [
                _row("one face", clip_s, stream(service, clip, FPS, looks)),
                _row("64 faces", crowd_s, stream(service, crowd, CROWD_FPS, crowd_looks)),
            ]
            in_flight_s, closed_s = killed(service, clip)
    header = ("clip", "s", "frames", "faces", "first object s", "whole answer s", "early MB", "late MB", "grown MB")
    note = (
        f"Early: after {looks[0]:g} s of the first clip and {crowd_looks[0]:g} s of the second; late: at their ends. "
        f"A client killed amid its stream: no request in flight after {in_flight_s:.2f} s, its upload closed after "
        f"{closed_s:.2f} s."
    )
    return section(f"Streams, {engine_options()}", table(header, rows), note)


def _row(name: str, clip_s: float, seen: Streamed) -> tuple[object, ...]:
    (_, early), (_, late) = seen.resident_mb
    return (name, clip_s, seen.frames, seen.faces, seen.first_s, seen.total_s, early, late, late - early)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--clip-s", type=float, default=600, help="length of the clip of one face")
    parser.add_argument("--crowd-s", type=float, default=60, help="length of the clip of 64 faces")
    parser.add_argument("--quick", action="store_true", help="seconds of each: does it run at all?")
    args = parser.parse_args()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(10, 3) if args.quick else measure(args.clip_s, args.crowd_s))


if __name__ == "__main__":
    main()
