"""The pages tell the truth: the answer is the service's, the table is the settings', commands and files exist."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.faces.detection import build_detector
from model_core.inference.predictor import Predictor
from service.app import create_app
from service.settings import Settings, variable
from tests.service.media_files import encoded

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}


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
    predictor = Predictor([load_bundle(locate_bundle("default"))])
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
    rows = re.findall(r"^\| `(AFFECT_\w+)` \| (.*?) \| (.*?) \|$", CONFIGURATION, re.M)
    expected = [(variable(name), in_the_table(field.default)) for name, field in Settings.model_fields.items()]
    assert [(name, default) for name, default, _ in rows] == expected
    assert [text for _, _, text in rows] == [field.description for field in Settings.model_fields.values()]


def test_the_readme_leads_to_every_page() -> None:
    told = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    history = {"docs/training-history.md"}  # the model card leads there
    assert told == {name for name in PAGES if name.startswith("docs/")} - history


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page: str) -> None:
    for module in set(re.findall(r"-m ((?:training|service|benchmarks)[\w.]*)", PAGES[page])):
        assert importlib.util.find_spec(module), module


def heading_anchors(text: str) -> set[str]:
    """The names by which links reach a page's headings, as they are shown on code hosts."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for name, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", PAGES[page]):
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), name
        if anchor:
            assert anchor in heading_anchors(target.read_text(encoding="utf-8")), f"{name}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_configuration_it_names_exists(page: str) -> None:
    text = PAGES[page]
    for name in re.findall(r"training/configs/\w+\.toml", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"--config ((?:paper|best)/\w+\.toml)", text):
        assert (ROOT / "training" / "configs" / name).is_file(), name


def test_checkpoints_are_imported_by_a_command() -> None:
    assert "python -m training.import_checkpoint" in PAGES["docs/weights.md"]
