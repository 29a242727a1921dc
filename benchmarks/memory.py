"""`python -m benchmarks.memory`: the service's resident memory over many frames and a long clip sent repeatedly."""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx2
import numpy as np
from skimage import data

from benchmarks.process import URL, ServiceProcess, running_service
from model_core.faces.geometry import Frame

CLIP_FPS = 10


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


def measure_frames(client: httpx2.Client, service: ServiceProcess, count: int) -> None:
    """Print memory while pictures are analysed one after another."""
    for i, frame in enumerate(moving_face(count), start=1):
        content = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
        faces = client.post(f"{URL}/analyze/frame", files={"file": content}).raise_for_status().json()["faces"]
        if i in (1, 100) or i % 400 == 0:
            print(f"frame {i:5d}: {service.resident_mb():7.1f} MB, {len(faces)} face", flush=True)


def measure_clip(client: httpx2.Client, service: ServiceProcess, seconds: int, runs: int) -> None:
    """Print memory before and after a clip, sent again and again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, seconds)
        for run in range(1, runs + 1):
            before = service.resident_mb()
            with path.open("rb") as file:
                document = client.post(f"{URL}/analyze/video", files={"file": file}).raise_for_status().json()
            analyzed, tracks = document["video"]["frames_analyzed"], len(document["tracks"])
            after = service.resident_mb()
            print(
                f"clip run {run}: {analyzed} frames, {tracks} track(s), {before:.1f} -> {after:.1f} MB, "
                f"{document['timings_ms']['total'] / analyzed:.1f} ms a frame",
                flush=True,
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=300, help="length of the clip")
    parser.add_argument("--runs", type=int, default=6, help="how often the clip is sent")
    args = parser.parse_args()
    with running_service() as service, httpx2.Client(timeout=900) as client:
        measure_frames(client, service, args.frames)
        measure_clip(client, service, args.seconds, args.runs)


if __name__ == "__main__":
    main()
