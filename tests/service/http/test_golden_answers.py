"""The JSON answers of whole requests: none of their numbers may change.

The documents in `golden/` were written by the code that joined faces to tracks by overlap alone, but for the sparse
video's, in which faces are now recognised over 1.5 s, and for sharpness, which is judged in crops of one size. Media
are lossless, networks tiny and seeded; times and the request's id are left out. `python -m
tests.service.http.test_golden_answers` writes them anew, which is only right where an answer is meant to change.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from model_core.bundles.manifest import TemporalSpec
from model_core.calibration import AxisCalibration, Calibration, ExpressionCalibration
from model_core.faces.geometry import Face, Frame
from model_core.inference.predictor import Predictor
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, face_at
from tests.tiny_bundles import TinyBackbone, tiny_bundle

GOLDEN = Path(__file__).parents[1] / "golden"
WIDTH, HEIGHT, FRAMES = 128, 72, 24

ADDED = {"frames", "notes", "pose", "reasons"}
"""What answers have had since."""

CASES: dict[str, dict[str, Any]] = {
    "frame": {},
    "frame_two_faces": {"max_faces": 2, "min_confidence": 0.5},
    "video": {},
    "video_causal": {"smoothing": "causal"},
    "video_offline": {"smoothing": "offline"},
    "video_framewise": {"temporal": "off", "smoothing": "offline"},
    "video_window": {"fps": 5, "start_s": 0.45, "end_s": 1.95, "max_faces": 1},
    "video_sparse": {"fps": 1.5, "smoothing": "offline", "min_confidence": 0.2},
}


class ScriptedDetector(FakeDetector):
    """Finds two faces that drift towards each other, by a mark in the frame's corner; sometimes one, or none."""

    name = "scripted-1"

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        number = int(frame[0, 0, 0]) // 10
        faces = [face_at(6 + 1.5 * number, 10, 34, 0.9), face_at(80 - 1.5 * number, 20, 28, 0.7)]
        if number in (5, 6):  # one is not found for a moment
            faces = faces[:1]
        if number in (10, 11):  # nobody is
            faces = []
        if number >= 20:  # somebody new
            faces = [face_at(84, 4, 40, 0.95), face_at(4, 30, 30, 0.4)]
        found = [face for face in faces if face.confidence >= min_confidence]
        return sorted(found, key=lambda face: -face.box.area)[:max_faces]


def frames() -> list[np.ndarray]:
    """uint8 [72, 128] each: a pattern that drifts, since one that is replaced would be a scene cut, and the frame's
    number in its corner."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    pictures = []
    for number in range(FRAMES):
        drift = 0.7 * number
        waves = np.sin((across + drift) / 7) + np.cos((down - drift) / 6) + np.sin((across + down + drift) / 9)
        picture = np.round(127 + 40 * waves).astype(np.uint8)
        picture[:2, :2] = 10 * number
        pictures.append(picture)
    return pictures


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frames()[3]).save(buffer, "PNG")
    return buffer.getvalue()


def clip() -> bytes:
    """A GIF, so without loss, of ten frames a second; two of its frames last longer."""
    first, *others = map(Image.fromarray, frames())
    durations = [400 if number in (7, 15) else 100 for number in range(FRAMES)]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, disposal=2)
    return buffer.getvalue()


@contextmanager
def serving() -> Iterator[TestClient]:
    """A framewise bundle of all tasks, and one with memory that answers valence-arousal and expressions."""
    backbone = TinyBackbone()
    calibration = Calibration(
        ExpressionCalibration(0.5, (0.1,) * 8),
        valence_arousal={"valence": AxisCalibration(0.8, 0.1, 0.5), "arousal": AxisCalibration(1.0, 0.0, 0.5)},
    )
    everything = tiny_bundle("everything", "valence_arousal", "expression", "action_units", backbone=backbone)
    remembering = tiny_bundle(
        "remembers",
        "valence_arousal",
        "expression",
        backbone=backbone,
        temporal=TemporalSpec(10.0, 4, "carried", 0.5),
        calibration=calibration,
    )
    predictor = Predictor([everything, remembering])
    with TestClient(create_app(Settings(scan_every_s=0), ScriptedDetector(), predictor)) as client:
        yield client


def answers() -> dict[str, Any]:
    """The document of each case, without times and the request's id."""
    documents = {}
    with serving() as client:
        for name, params in CASES.items():
            route, content = ("frame", picture()) if name.startswith("frame") else ("video", clip())
            response = client.post(f"/analyze/{route}", files={"file": content}, params=params)
            assert response.status_code == 200, response.text
            documents[name] = response.json()
            del documents[name]["timings_ms"], documents[name]["request_id"]
    return documents


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return answers()


def assert_same(golden: Any, found: Any, path: str) -> None:
    """The same keys and values; numbers within 1e-5, by which float32 differs between CPUs."""
    if isinstance(golden, dict):
        assert found.keys() - golden.keys() <= ADDED, path
        for key, value in golden.items():
            assert_same(value, found[key], f"{path}.{key}")
    elif isinstance(golden, list):
        assert len(found) == len(golden), path
        for position, (one, other) in enumerate(zip(golden, found, strict=True)):
            assert_same(one, other, f"{path}[{position}]")
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, abs=1e-5), path
    else:
        assert found == golden, path


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_what_it_was(documents: dict[str, Any], name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert_same(golden, documents[name], name)


if __name__ == "__main__":
    for name, document in answers().items():
        (GOLDEN / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
