"""The service answers without torch as it does with torch's engine.

A second process, in which torch cannot be imported, imports this module, too; so it may not import torch itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model_core.bundles.bundle import load_bundle, save_bundle
from model_core.bundles.manifest import TemporalSpec
from model_core.calibration import Calibration
from model_core.faces.detection import build_detector
from service.app import create_app
from service.loading import load_predictors
from service.settings import Settings, load_settings
from tests.service.media_files import encoded, video

WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "open_clip"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
from tests.service import test_without_torch
"""


def answers(settings: Settings, folder: Path) -> list[dict[str, Any]]:
    """The service's answers to the picture and the clip of a folder."""
    detector = build_detector(settings.detector)
    [predictor] = load_predictors(settings, detector)
    with TestClient(create_app(settings, detector, predictor)) as client:
        picture = client.post("/analyze/frame", files={"file": (folder / "face.png").read_bytes()})
        clip = client.post("/analyze/video", files={"file": (folder / "face.mp4").read_bytes()})
    assert (picture.status_code, clip.status_code) == (200, 200)
    return [picture.json(), clip.json()]


def write_answers(folder: str, out: str) -> None:
    """Write the answers as JSON, and whether torch was imported; in the second process."""
    found = answers(load_settings(), Path(folder))
    Path(out).write_text(json.dumps({"torch": "torch" in sys.modules, "answers": found}))


def run_without_torch(statement: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + statement],
        env=environment | {"AFFECT_LOG_LEVEL": "warning", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value, with its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, f"{path}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers(item, f"{path}[{place}]")
    elif isinstance(value, float):
        yield path, value


@pytest.fixture(scope="module")
def bundles(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A framewise bundle, and one with an LSTM on the same backbone."""
    import torch

    from model_core.models.registry import build_network

    first = load_bundle(tiny_bundle_dir)
    spec = replace(first.manifest.network, tasks=("expression",), recurrent=8)
    manifest = replace(
        first.manifest,
        name="with-memory",
        network=spec,
        temporal=TemporalSpec(10.0, 4, "carried", 0.5),
        references={"expression": "annotated"},
        calibration=Calibration(),
    )
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = build_network(spec, first.network.backbone).eval()
    folder = tmp_path_factory.mktemp("temporal") / "with-memory"
    save_bundle(folder, manifest, network)
    return f"{tiny_bundle_dir},{folder}"


@pytest.fixture(scope="module")
def media(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture and a short clip of the same face."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "face.png").write_bytes(encoded(astronaut, ".png"))
    video(folder / "face.mp4", [np.roll(astronaut, 2 * place, axis=1) for place in range(4)], fps=10)
    return folder


def test_answers_without_torch_are_those_with_it(bundles: str, media: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    served = tuple(bundles.split(","))
    run = run_without_torch(
        f"test_without_torch.write_answers({str(media)!r}, {str(tmp_path / 'answers.json')!r})",
        AFFECT_BUNDLES=bundles,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads((tmp_path / "answers.json").read_text())
    assert told["torch"] is False
    found = told["answers"]
    expected = answers(Settings(bundles=served, engine="torch"), media)
    assert found[0]["model"]["engine"] == "openvino"
    assert len(found[0]["faces"]) == 1
    assert [len(frame["faces"]) for frame in found[1]["frames"]] == [1, 1, 1, 1]
    for ours, theirs in zip(found, expected, strict=True):
        analysed = "faces" if "faces" in ours else "frames"
        assert dict(numbers(ours[analysed])) == pytest.approx(dict(numbers(theirs[analysed])), abs=1e-4)


def test_a_backbone_without_a_graph_names_what_is_missing(quick_bundle_dir: Path) -> None:
    pytest.importorskip("openvino")
    run = run_without_torch(
        "from service.__main__ import main; sys.argv[1:] = []; main()",
        AFFECT_BUNDLES=str(quick_bundle_dir),
        AFFECT_PORT="0",
    )
    assert run.returncode == 1
    assert run.stderr == (
        "error: bundle tests-only-untrained: OpenVINO has no graph of its backbone, and PyTorch, which makes one, is "
        "not installed; install the extra `torch`\n"
    )


def test_the_engine_torch_without_torch_names_the_extra(bundles: str) -> None:
    run = run_without_torch(
        "from service.__main__ import main; sys.argv[1:] = []; main()",
        AFFECT_BUNDLES=bundles,
        AFFECT_ENGINE="torch",
        AFFECT_PORT="0",
    )
    assert run.returncode == 1
    assert run.stderr == "error: the engine torch is not installed; install the extra `torch`\n"
