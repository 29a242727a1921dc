"""`python -m benchmarks.long_job`: a long video as a job: its memory, whether its progress is true, and a kill amid it.

The clip is one minute of a drifting face, encoded once and repeated. The service is started twice: for an undisturbed
run, and for one that is killed at half and taken up again.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import httpx2
import numpy as np
from av.video.stream import VideoStream

from benchmarks.memory import CLIP_FPS, moving_face
from benchmarks.process import ServiceProcess, running_service
from benchmarks.reporting import section, table

POLL_S = 1.0
"""Seconds between two looks at a job: its progress is told every second."""

READY_S = 300.0
"""Longest time in which the service is ready, also on a machine that does much else."""

LEARNING_SHARE = 0.2
"""Share of a run after which the memory that it has is compared with what it takes later."""

MINUTE_S = 60


@dataclass(frozen=True)
class Look:
    """What a look at a job showed."""

    time_s: float
    """Since the job was accepted."""
    progress: float
    frames: int
    """Frames that this process of the service has analysed, as its metrics count them."""
    memory_mb: float
    """Resident memory of the service and its processes."""


@dataclass(frozen=True)
class Run:
    """A job from its acceptance to its end."""

    looks: Sequence[Look]
    seconds: float

    @property
    def frames(self) -> int:
        """Frames that were analysed by its end."""
        return self.looks[-1].frames

    def progress_error(self) -> float:
        """Largest difference between the progress and the share of the frames that were analysed."""
        return max(abs(look.progress - look.frames / self.frames) for look in self.looks)

    def time_error(self) -> float:
        """Largest difference between the progress and the share of the time that had passed."""
        return max(abs(look.progress - look.time_s / self.seconds) for look in self.looks)

    def growth_mb(self) -> float:
        """Highest memory of the rest of the run, less the highest of its first LEARNING_SHARE."""
        # The first look at a short job may come late.
        learned_s = max(LEARNING_SHARE * self.seconds, self.looks[0].time_s)
        first = [look.memory_mb for look in self.looks if look.time_s <= learned_s]
        rest = [look.memory_mb for look in self.looks if look.time_s > learned_s]
        return max(rest, default=max(first)) - max(first)


def write_clip(path: Path, minutes: int) -> None:
    """An MP4 of a drifting face at 320 x 240."""
    with tempfile.TemporaryDirectory() as folder:
        minute = Path(folder) / "minute.mp4"
        _write_minute(minute)
        with av.open(str(minute)) as reading:
            packets = [packet for packet in reading.demux(video=0) if packet.dts is not None]
            with av.open(str(path), "w") as writing:
                stream = writing.add_stream_from_template(reading.streams.video[0])
                starts = [(packet.pts, packet.dts) for packet in packets]
                for number in range(minutes):
                    for packet, (pts, dts) in zip(packets, starts, strict=True):
                        by = round(number * MINUTE_S / packet.time_base)
                        packet.pts, packet.dts, packet.stream = pts + by, dts + by, stream
                        writing.mux(packet)


def _write_minute(path: Path) -> None:
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "23"}
        stream = cast("VideoStream", container.add_stream("libx264", rate=CLIP_FPS, options=options))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in moving_face(MINUTE_S * CLIP_FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())


def family_mb(pid: int) -> float:
    """Resident memory of a process and its children in MB (Linux)."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return sum(ServiceProcess(each, "").resident_mb() for each in (pid, *children))


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def frames_of_jobs(metrics: str) -> int:
    """Return the number of frames that jobs have had analysed, by the text of `/metrics`."""
    counts = [line.split() for line in metrics.splitlines() if line.startswith("affect_frames_total{")]
    return round(sum(float(count) for labels, count in counts if 'route="/jobs"' in labels))


def accept(service: ServiceProcess, clip: Path, media_type: str, query: str) -> str:
    """Submit the clip; returns the path of its job."""
    headers = {"Prefer": "respond-async", "Accept": media_type}
    with clip.open("rb") as file:
        answer = httpx2.post(f"{service.url}/analyze/video?{query}", files={"file": file}, headers=headers, timeout=300)
    return str(answer.raise_for_status().headers["location"])


def follow(service: ServiceProcess, location: str, until: Callable[[Look, str], bool]) -> Run:
    """Look at a job until a condition on the look and the job's state holds. Raises SystemExit where it fails."""
    started_s = time.monotonic()
    looks: list[Look] = []
    with httpx2.Client(timeout=60) as client:
        while True:
            status = client.get(service.url + location).raise_for_status().json()
            if status["state"] == "failed":
                raise SystemExit(f"the job failed: {status['problem']}")
            frames = frames_of_jobs(client.get(f"{service.url}/metrics").raise_for_status().text)
            seconds = time.monotonic() - started_s
            looks.append(Look(seconds, status["progress"], frames, family_mb(service.pid)))
            if until(looks[-1], status["state"]):
                return Run(looks, looks[-1].time_s)
            time.sleep(POLL_S)


def measure(minutes: int, media_type: str, query: str) -> Iterator[str]:
    """Run the job undisturbed, then killed at half; yields a section of markdown after each, for both take long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        write_clip(clip, minutes)
        settings = {"AFFECT_JOBS_DIR": str(folder / "jobs")}
        with running_service(ready_s=READY_S, **settings) as service:
            location = accept(service, clip, media_type, query)
            whole = follow(service, location, lambda look, state: state == "succeeded")
        yield section(f"{minutes} min of video as a job, as {media_type} {query}", _undisturbed(whole))
        with running_service(ready_s=READY_S, **settings) as service:
            location = accept(service, clip, media_type, query)
            half = follow(service, location, lambda look, state: look.progress >= 0.5 or state == "succeeded")
            service.kill()
        with running_service(ready_s=READY_S, **settings) as service:
            rest = follow(service, location, lambda look, state: state == "succeeded")
        rows = [
            ["killed after", f"{half.seconds:.0f} s, at {half.looks[-1].progress:.0%}"],
            ["from the restart to the end", f"{rest.seconds:.0f} s, {rest.seconds / whole.seconds:.2f} of the whole"],
            ["frames analysed after the restart", f"{rest.frames}, {rest.frames / whole.frames:.2f} of the whole"],
        ]
        yield section("The same, killed at half", table(["figure", "value"], rows))


def _undisturbed(run: Run) -> str:
    rows = [
        ["time", f"{run.seconds:.0f} s"],
        ["memory, highest", f"{max(look.memory_mb for look in run.looks):.0f} MB"],
        ["memory, growth after the first fifth", f"{run.growth_mb():+.0f} MB"],
        ["frames", str(run.frames)],
        [
            "progress, largest error",
            f"{run.progress_error():.1%} of the analysed frames, {run.time_error():.1%} of the time",
        ],
    ]
    return table(["figure", "value"], rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_job", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=int, default=60, help="length of the clip (%(default)s)")
    parser.add_argument("--media-type", default="application/x-ndjson", help="of the result (%(default)s)")
    parser.add_argument("--query", default="", help="parameters of the request, such as blur=faces")
    args = parser.parse_args()
    for text in measure(args.minutes, args.media_type, args.query):
        print(text, flush=True)


if __name__ == "__main__":
    main()
