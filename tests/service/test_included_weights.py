"""The included weights with the engine of CPUs, where neither torch nor the shipped detector need be installed."""

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model_core.faces.geometry import Box, Face, Landmarks, Point
from service.app import create_app
from service.loading import load_predictors
from service.settings import Settings
from tests.service.fakes import FakeDetector

README = Path(__file__).parents[2] / "README.md"


def test_the_face_of_the_readme_is_answered_as_there(astronaut_png: bytes) -> None:
    shown = json.loads(re.search(r"```json\n(.*?)```", README.read_text(encoding="utf-8"), re.S)[1])["faces"][0]
    landmarks = Landmarks(**{name: Point(*point) for name, point in shown["landmarks"].items()})
    detector = FakeDetector(Face(Box(**shown["box"]), landmarks, shown["detection_confidence"]))
    settings = Settings(engine="openvino")
    [predictor] = load_predictors(settings, detector)
    with TestClient(create_app(settings, detector, predictor)) as client:
        [face] = client.post("/analyze/frame", files={"file": astronaut_png}).json()["faces"]
    assert face["expression"]["label"] == "happiness"
    # The README's answer is torch's in float32; here it may be OpenVINO's in bfloat16.
    assert (face["valence"], face["arousal"]) == pytest.approx((shown["valence"], shown["arousal"]), abs=0.05)
    active = {name: unit["active"] for name, unit in face["action_units"].items()}
    assert active == {name: unit["active"] for name, unit in shown["action_units"].items()}
