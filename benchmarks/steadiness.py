"""`python -m benchmarks.steadiness`: how much of a measurement is the instrument - still clips, turns, small faces.

Three measurements of the service at its default settings, of the public-domain photo of the astronaut: clips of one
still picture (the range of each number over the clip, and its difference to the picture's own answer), the picture
turned in steps of 15 degrees, and faces of 24 to 100 pixels in a photo of twelve megapixels.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from skimage import data

from benchmarks.reporting import circumstances, section, table
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Frame
from service.app import create_app
from service.loading import load_predictors
from service.logs import configure_logs
from service.settings import Settings

FACE_PX = 89
"""Shorter side of the box around the astronaut's face in the photo."""
CENTRE = (222, 118)
"""Middle of her face in pixels of the photo."""
CLIP_S = 4
CODECS = {
    "lossless": ("libx264rgb", "rgb24", {"qp": "0"}),
    "H.264": ("libx264", "yuv420p", {"crf": "20"}),
}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    still_px: tuple[int, ...] = (60, 100, 150, 200, 300, 400)
    """Sizes of the face in still clips."""
    rates: tuple[int, ...] = (5, 10, 30)
    """Frames per second of still clips."""
    turn_by: int = 15
    """Degrees between two turns of the picture."""
    small_px: tuple[int, ...] = (24, 32, 40, 60, 100)
    """Sizes of faces in a large photo."""


QUICK = Plan((100,), (5,), 180, (100,))


@contextmanager
def service() -> Iterator[TestClient]:
    """A service with the shipped bundle and detector, in this process."""
    settings = Settings(log_level="error")
    configure_logs(settings.log_format, settings.log_level)
    detector = build_detector(settings.detector)
    predictor, *_ = load_predictors(settings, detector)
    with TestClient(create_app(settings, detector, predictor)) as client:
        yield client


def still(size_px: int) -> Frame:
    """The astronaut's face with a box of `size_px`, amid a square of two and a half times that, at least 640 pixels."""
    side = max(640, 2 * round(1.25 * size_px))
    scale = size_px / FACE_PX
    x, y = CENTRE
    matrix = np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]])
    photo = data.astronaut()
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix[:, :2] = np.eye(2)
    shown = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=(96, 96, 96))
    return np.asarray(shown, dtype=np.uint8)


def clip(frame: Frame, rate: int, codec: str, path: Path) -> bytes:
    """A clip of CLIP_S seconds that shows one frame all the time."""
    name, pixel_format, options = CODECS[codec]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(name, rate=rate, options=options)
        stream.height, stream.width = frame.shape[:2]
        stream.pix_fmt = pixel_format
        for _ in range(CLIP_S * rate):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return path.read_bytes()


def picture(client: TestClient, frame: Frame, **query: Any) -> list[dict[str, Any]]:
    """The faces of a picture, sent as PNG."""
    faces: list[dict[str, Any]] = answered(client, frame, ".png", **query)["faces"]
    return faces


def answered(client: TestClient, frame: Frame, suffix: str, **query: Any) -> dict[str, Any]:
    """The answer about a picture, sent as a file of this kind."""
    content = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    answer = client.post("/analyze/frame", params=query, files={"file": content})
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def numbers(face: dict[str, Any]) -> NDArray[np.float64]:
    """Valence, and all probabilities of a face."""
    units = [unit["probability"] for unit in face["action_units"].values()]
    return np.array([face["valence"], *face["expression"]["probabilities"].values(), *units])


def still_clips(client: TestClient, plan: Plan) -> str:
    """A table: ranges over still clips, and differences to the picture."""
    rows = []
    for codec in CODECS:
        for size in plan.still_px:
            frame = still(size)
            [face] = picture(client, frame)
            for rate in plan.rates:
                with tempfile.TemporaryDirectory() as folder:
                    content = clip(frame, rate, codec, Path(folder) / "still.mkv")
                answer = client.post("/analyze/video", params={"fps": rate}, files={"file": content})
                answer.raise_for_status()
                tracks = answer.json()["tracks"]
                values = np.array([numbers(sample) for track in tracks for sample in track["samples"]])
                ranges, apart = np.ptp(values, axis=0), np.abs(values - numbers(face)).max(axis=0)
                rows.append(
                    (codec, size, rate, len(tracks), len(values), ranges[0], max(ranges[1:]), apart[0], max(apart[1:]))
                )
    header = ("clip", "face px", "frames/s", "tracks", "samples", "valence range", "probability range")
    return table((*header, "valence - picture", "probability - picture"), [_rounded(row) for row in rows])


def turns(client: TestClient, plan: Plan) -> str:
    """A table: answers about the photo turned in steps of some degrees."""
    rows = []
    upright: dict[str, Any] = {}
    photo = data.astronaut()
    for degrees in range(0, 360, plan.turn_by):
        matrix = cv2.getRotationMatrix2D(CENTRE, degrees, 1.0)
        turned = cv2.warpAffine(photo, matrix, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        faces = picture(client, np.asarray(turned, dtype=np.uint8), max_faces=1)
        if not faces:
            rows.append((degrees, "no face", "", "", "", ""))
            continue
        face = faces[0]
        upright = upright or face
        active = face["action_units"]["AU12"]["active"]
        same = face["expression"]["label"] == upright["expression"]["label"]
        same &= active == upright["action_units"]["AU12"]["active"]
        difference = face["valence"] - upright["valence"]
        reliable = face["quality"]["reliable"]
        honest = (same and abs(difference) <= 0.1) or not reliable
        rows.append((degrees, face["expression"]["label"], "on" if active else "off", difference, reliable, honest))
    header = ("degrees", "expression", "AU12", "valence - upright", "reliable", "as upright, or not reliable")
    return table(header, [_rounded(row) for row in rows])


def small_faces(client: TestClient, plan: Plan) -> str:
    """A table: how many of twelve small faces are found in a photo of 4000 x 3000 pixels, and how long it takes."""
    rows = []
    for size in plan.small_px:
        frame = np.full((3000, 4000, 3), 128, np.uint8)
        scale = size / FACE_PX
        face = cv2.resize(data.astronaut()[:256, 90:346], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for number in range(12):
            x, y = 300 + 1000 * (number % 4), 400 + 1000 * (number // 4)
            frame[y : y + len(face), x : x + face.shape[1]] = face
        document = answered(client, frame, ".jpg", max_faces=64)
        rows.append((size, len(document["faces"]), document["timings_ms"]["detect"], document["timings_ms"]["total"]))
    return table(("face px", "found of 12", "detect ms", "total ms"), [_rounded(row) for row in rows])


def _rounded(row: Sequence[object]) -> list[object]:
    return [f"{value:.4f}" if isinstance(value, float) else value for value in row]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steadiness", description=__doc__)
    parser.add_argument("--only", choices=("clips", "turns", "small"), help="one of the three measurements")
    parser.add_argument("--quick", action="store_true", help="one size, one rate, two turns: does it run at all?")
    args = parser.parse_args()
    plan = QUICK if args.quick else Plan()
    parts = {"clips": still_clips, "turns": turns, "small": small_faces}
    with service() as client:
        for name, measure in parts.items():
            if args.only in (None, name):
                print(section(name, measure(client, plan)))
    print(circumstances(torch.get_num_threads()))


if __name__ == "__main__":
    main()
