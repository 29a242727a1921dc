"""The README tells the truth: its answer is the service's, its table is the settings', its commands exist."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from model_core.bundle import load_bundle, locate_bundle
from model_core.detection import build_detector
from model_core.predictor import Predictor
from service.app import create_app
from service.settings import Settings, variable
from tests.service.media import encoded

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def assert_close(shown: Any, actual: Any, path: str = "answer") -> None:
    """Every value that the README shows is in the answer, within the rounding it shows."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            assert key in actual, f"{path}.{key}"
            assert_close(value, actual[key], f"{path}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(actual), path
        for i, (a, b) in enumerate(zip(shown, actual, strict=True)):
            assert_close(a, b, f"{path}[{i}]")
    elif isinstance(shown, float):
        assert actual == pytest.approx(shown, abs=0.02), path
    else:
        assert shown == actual, path


def test_the_answer_is_what_the_service_says(astronaut: np.ndarray) -> None:
    shown = json.loads(re.search(r"```json\n(.*?)```", README, re.S)[1])
    shown.pop("request_id", None)
    predictor = Predictor([load_bundle(locate_bundle("default"))], torch.device("cpu"))
    with TestClient(create_app(Settings(), build_detector("yuface"), predictor)) as client:
        response = client.post("/analyze/frame", files={"file": encoded(astronaut, ".png")})
    assert response.status_code == 200
    [face] = shown["faces"]
    assert len(face["action_units"]) == 12
    assert_close(shown, response.json())


def in_the_table(default: object) -> str:
    """A setting's default as one would write the variable; it is unset where there is none."""
    if default in (None, ()):
        return "unset"
    text = ",".join(default) if isinstance(default, tuple) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`"


def test_the_settings_table_is_complete_and_true() -> None:
    rows = re.findall(r"^\| `(AFFECT_\w+)` \| (.*?) \| (.*?) \|$", README, re.M)
    expected = [(variable(name), in_the_table(field.default)) for name, field in Settings.model_fields.items()]
    assert [(name, default) for name, default, _ in rows] == expected
    assert [text for _, _, text in rows] == [field.description for field in Settings.model_fields.values()]


def test_every_command_exists() -> None:
    modules = set(re.findall(r"python -m ((?:training|service|benchmarks)[\w.]*)", README))
    assert {"training.prepare", "training.train", "training.evaluate", "training.import_checkpoint"} <= modules
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_every_file_it_names_exists() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"\]\((\w+\.md)\)", README) + re.findall(r"training/configs/\w+\.toml", README):
        assert (root / name).is_file(), name
