"""`python -m benchmarks.memory`: resident memory over 2,000 frames and a five-minute clip, in one process."""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from fastapi.testclient import TestClient
from skimage import data

from model_core.bundle import load_bundle, locate_bundle
from model_core.detection import build_detector
from model_core.faces import Frame
from model_core.predictor import Predictor
from service.app import create_app
from service.settings import Settings

CLIP_FPS = 10


def resident_mb() -> float:
    """Resident set size of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def moving_face(count: int) -> Iterator[Frame]:
    """RGB frames of 320 x 240 with one face that drifts."""
    picture = cv2.resize(data.astronaut(), (400, 400), interpolation=cv2.INTER_AREA)
    for i in range(count):
        x, y = 40 + round(30 * np.sin(i / 40)), 20 + round(15 * np.sin(i / 25))
        yield np.ascontiguousarray(picture[y : y + 240, x : x + 320])


def write_clip(path: Path, seconds: int) -> None:
    """An mp4 of the moving face."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), CLIP_FPS, (320, 240))
    for frame in moving_face(seconds * CLIP_FPS):
        writer.write(frame[..., ::-1])
    writer.release()


def measure_frames(client: TestClient, count: int) -> None:
    """Print memory while pictures are analysed one after another."""
    for i, frame in enumerate(moving_face(count), start=1):
        content = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
        response = client.post("/analyze/frame", files={"file": content})
        response.raise_for_status()
        if i in (1, 100) or i % 400 == 0:
            print(f"frame {i:5d}: {resident_mb():7.1f} MB, {len(response.json()['faces'])} face", flush=True)


def measure_clip(client: TestClient, seconds: int) -> None:
    """Print memory before and after a clip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, seconds)
        for run in range(1, 3):
            before = resident_mb()
            with path.open("rb") as file:
                response = client.post("/analyze/video", files={"file": file})
            response.raise_for_status()
            document = response.json()
            analyzed, tracks = document["video"]["frames_analyzed"], len(document["tracks"])
            print(
                f"clip run {run}: {analyzed} frames, {tracks} track(s), {before:.1f} -> {resident_mb():.1f} MB",
                flush=True,
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--bundle", default="default")
    args = parser.parse_args()
    predictor = Predictor(load_bundle(locate_bundle(args.bundle)), torch.device("cpu"))
    with TestClient(create_app(Settings(), build_detector("yuface"), predictor)) as client:
        measure_frames(client, args.frames)
        measure_clip(client, args.seconds)


if __name__ == "__main__":
    main()
