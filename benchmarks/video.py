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
from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.faces.alignment import align
from model_core.faces.detection import build_detector
from model_core.preprocessing import to_batch

FPS = 30
NAIVE_FRAMES = 300
"""The plain loop stops here: its cost for each frame does not change."""

DEFAULT = (2.0, 18.0, 20.0)
QUICK = (0.2, 0.3, 0.4)
"""Up to where the clip is analysed, in seconds, each time from its start; the last is its length."""


@dataclass(frozen=True)
class Analysed:
    """A part of a clip: its analysed frames, the faces in them, and the seconds that this took."""

    frames: int
    faces: int
    seconds: float

    def ms_per_frame(self) -> float:
        """Milliseconds a frame; NaN without frames."""
        return 1000 * self.seconds / self.frames if self.frames else float("nan")

    def __sub__(self, earlier: "Analysed") -> "Analysed":
        """Return the part between an earlier end and this one."""
        return Analysed(self.frames - earlier.frames, self.faces - earlier.faces, self.seconds - earlier.seconds)


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
                network(torch.from_numpy(to_batch([crop], spec)).contiguous())
                faces += 1
            frames += 1
    seconds = time.perf_counter() - started
    capture.release()
    return Analysed(frames, faces, seconds)


def measure(*ends_s: float) -> str:
    """The markdown section, for at least two ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, round(ends_s[-1] * FPS), FPS)
        content = path.read_bytes()
        limits = {
            "AFFECT_MAX_FRAMES": str(round(ends_s[-1] * FPS) + 1),
            "AFFECT_MAX_VIDEO_S": str(ends_s[-1] + 1),
            "AFFECT_MAX_UPLOAD_BYTES": str(len(content) + 1_000_000),
        }
        with (
            running_service(AFFECT_THREADS=str(torch.get_num_threads()), **limits) as service,
            httpx2.Client(timeout=900) as client,
        ):
            served(client, content, ends_s[0])  # warms up
            before_mb = service.resident_mb()
            grown = [served(client, content, end_s) for end_s in ends_s]
            after_mb = service.resident_mb()
        plain = naive(path, NAIVE_FRAMES)
    rows = [_row(f"service, the first {end_s:g} s", part) for end_s, part in zip(ends_s, grown, strict=True)]
    last = grown[-1] - grown[-2]
    rows.append(_row(f"service, from {ends_s[-2]:g} to {ends_s[-1]:g} s", last))
    rows.append(_row("plain loop", plain))
    ratio = plain.ms_per_frame() / grown[-1].ms_per_frame()
    drift = last.ms_per_frame() / grown[0].ms_per_frame()
    note = (
        f"1280 x 720, {FPS} frames a second. The service is {ratio:.3g} times as fast as the plain loop; a frame of "
        f"the clip's last part costs {drift:.3g} times one of its first; {before_mb:.0f} MB resident after the first "
        f"part, {after_mb:.0f} MB after the last."
    )
    return section(f"Video, {engine_options()}", table(("way", "frames", "faces", "frames/s", "ms/frame"), rows), note)


def _row(name: str, part: Analysed) -> tuple[object, ...]:
    return (name, part.frames, part.faces, part.frames / part.seconds, part.ms_per_frame())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__)
    parser.add_argument(
        "--ends",
        type=float,
        nargs="+",
        default=DEFAULT,
        help="up to where it is analysed, in seconds; the last: its length",
    )
    parser.add_argument("--quick", action="store_true", help="less than a second: does it run at all?")
    args = parser.parse_args()
    if len(args.ends) < 2:
        parser.error("--ends needs two ends at least, since the later part is compared with the earlier")
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(*(QUICK if args.quick else args.ends)))


if __name__ == "__main__":
    main()
