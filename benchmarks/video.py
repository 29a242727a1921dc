"""`python -m benchmarks.video`: /analyze/video on a clip of 1280 x 720 with one face, every frame of it analysed.

Beside it, a plain loop over the same clip: every frame scanned, the network as trained, one face at a time.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx2
import numpy as np
import torch

from benchmarks.clip import write_clip
from benchmarks.process import URL, engine_options, running_service
from benchmarks.reporting import circumstances, section, table
from model_core.alignment import align
from model_core.bundle import load_bundle, locate_bundle
from model_core.detection import build_detector
from model_core.preprocessing import to_batch

FPS = 30
NAIVE_FRAMES = 300
"""The plain loop stops here: its cost for each frame does not change."""

DEFAULT = (20.0, 10)
QUICK = (0.4, 2)
"""Seconds of the clip, and in how many growing parts it is analysed."""


@dataclass(frozen=True)
class Analysed:
    """A part of a clip: its analysed frames, the faces in them, and the seconds that this took."""

    frames: int
    faces: int
    seconds: float

    def ms_per_frame(self) -> float:
        """Milliseconds a frame; NaN without frames."""
        return 1000 * self.seconds / self.frames if self.frames else float("nan")


def parts_s(seconds: float, parts: int) -> list[float]:
    """The ends of a clip's growing parts, in seconds: 10 s in 2 parts -> [5, 10]."""
    return [seconds * part / parts for part in range(1, parts + 1)]


def served(client: httpx2.Client, content: bytes, end_s: float) -> Analysed:
    """The service's analysis of a clip up to `end_s`, at the source's rate."""
    started = time.perf_counter()
    query = f"fps={FPS}&end_s={end_s}"
    response = client.post(f"{URL}/analyze/video?{query}", files={"file": content}).raise_for_status()
    seconds = time.perf_counter() - started
    document = response.json()
    faces = sum(len(track["samples"]) for track in document["tracks"])
    return Analysed(document["video"]["frames_analyzed"], faces, seconds)


def naive(path: Path, most: int) -> Analysed:
    """The first frames of a clip, each scanned at the detector's 640 pixels, then one eager forward pass a face."""
    bundle, detector = load_bundle(locate_bundle("default")), build_detector("yuface")
    network, spec = bundle.network.eval(), bundle.manifest.input
    capture, frames, faces = cv2.VideoCapture(str(path)), 0, 0
    started = time.perf_counter()
    with torch.inference_mode():
        while frames < most and (read := capture.read())[0]:
            frame = np.ascontiguousarray(read[1][..., ::-1])
            for face in detector.detect(frame):
                crop = align(frame, face.landmarks, spec.alignment, spec.size)
                network(to_batch([crop], spec).contiguous())
                faces += 1
            frames += 1
    seconds = time.perf_counter() - started
    capture.release()
    return Analysed(frames, faces, seconds)


def measure(seconds: float, parts: int) -> str:
    """The markdown section."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, round(seconds * FPS), FPS)
        content = path.read_bytes()
        with running_service(AFFECT_THREADS=str(torch.get_num_threads())), httpx2.Client(timeout=900) as client:
            served(client, content, parts_s(seconds, parts)[0])  # warms up
            grown = [served(client, content, end_s) for end_s in parts_s(seconds, parts)]
        plain = naive(path, NAIVE_FRAMES)
    rows = [
        _row(f"service, the first {end_s:g} s", part)
        for end_s, part in zip(parts_s(seconds, parts), grown, strict=True)
    ]
    rows.append(_row("plain loop", plain))
    ratio = plain.ms_per_frame() / grown[-1].ms_per_frame()
    note = f"1280 x 720, {FPS} frames a second. The service is {ratio:.3g} times as fast as the plain loop."
    return section(f"Video, {engine_options()}", table(("way", "frames", "faces", "frames/s", "ms/frame"), rows), note)


def _row(name: str, part: Analysed) -> tuple[object, ...]:
    return (name, part.frames, part.faces, part.frames / part.seconds, part.ms_per_frame())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__)
    parser.add_argument("--seconds", type=float, default=DEFAULT[0], help="length of the clip")
    parser.add_argument("--parts", type=int, default=DEFAULT[1], help="analyses of a growing part of the clip")
    parser.add_argument("--quick", action="store_true", help="less than a second: does it run at all?")
    args = parser.parse_args()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(*(QUICK if args.quick else (args.seconds, args.parts))))


if __name__ == "__main__":
    main()
