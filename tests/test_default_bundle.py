"""The bundle that ships, on real faces, through the whole service."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from model_core.affect import TASKS
from model_core.bundles.bundle import WEIGHTS, load_bundle, locate_bundle
from model_core.faces.alignment import align
from model_core.faces.detection import build_detector
from model_core.inference.predictor import Predictor
from model_core.inference.runtimes import Engine, Precision, RuntimeOptions
from service.app import create_app
from service.settings import Settings
from tests.service.media_files import encoded
from training.data.augmentation import Augmentation
from training.data.batches import image_batch
from training.data.mirror_images import logits_of

CARD, README = (
    " ".join((Path(__file__).parents[1] / page).read_text(encoding="utf-8").split())
    for page in ("MODEL_CARD.md", "README.md")
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    predictor = Predictor([load_bundle(locate_bundle("default"))])
    with TestClient(create_app(Settings(), build_detector("yuface"), predictor)) as client:
        yield client


def frame(client: TestClient, content: bytes) -> list[dict]:
    response = client.post("/analyze/frame", files={"file": content})
    assert response.status_code == 200, response.text
    return response.json()["faces"]


def video(client: TestClient, path: Path) -> list[dict]:
    response = client.post("/analyze/video", files={"file": path.read_bytes()}, params={"fps": 5})
    assert response.status_code == 200, response.text
    return response.json()["tracks"]


def test_it_is_small_and_says_what_is_derived() -> None:
    folder = locate_bundle("default")
    manifest = load_bundle(folder).manifest
    assert (folder / WEIGHTS).stat().st_size <= 16_000_000
    assert dict(manifest.references) == {
        "valence_arousal": "derived",
        "expression": "annotated",
        "action_units": "derived",
        "eyes_closed": "derived",
        "unit_changes": "rendered",
    }
    assert manifest.calibration.expression is not None
    assert manifest.calibration.action_units is not None


def test_the_card_names_these_weights() -> None:
    manifest = load_bundle(locate_bundle("default")).manifest
    assert manifest.weights_sha256 in CARD
    assert f"{manifest.quality['ferplus']['expression']['accuracy']:.3f}" in CARD


def test_the_readme_gives_the_figures_of_these_weights() -> None:
    manifest = load_bundle(locate_bundle("default")).manifest
    faces, rendered = manifest.quality["ferplus"], manifest.quality["rendered"]["rendered"]
    scores, unseen = faces["expression"], faces["groups"]["values"]["no"]
    aurocs = {name: unit["auroc"] for name, unit in rendered["units"].items()}
    worst, best = min(aurocs, key=aurocs.__getitem__), max(aurocs, key=aurocs.__getitem__)
    brows = [manifest.calibration.unit(name).threshold for name in ("AU1", "AU2", "AU4")]
    for sentence in (
        f"accuracy of its expressions is {scores['accuracy']:.3f} and their macro F1 {scores['macro_f1_8']:.3f}",
        f"without these the accuracy is {unseen['accuracy']:.3f}, and the macro F1, over the six classes without "
        f"disgust and contempt, {unseen['macro_f1']:.3f}",
        f"F1 is {scores['f1']['disgust']:.2f} for disgust and {scores['f1']['contempt']:.2f} for contempt",
        f"the mean AUROC of the action units is {rendered['units_mean']['auroc']:.2f}, from {aurocs[worst]:.2f} for "
        f"{worst} to {aurocs[best]:.2f} for {best}",
        f"AU1, AU2 and AU4 need a probability of {min(brows):.2f} to {max(brows):.2f}",
    ):
        assert sentence in README
    assert f"need a probability of {min(brows):.2f} to {max(brows):.2f}" in CARD


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_serving_form_says_what_was_evaluated(astronaut: np.ndarray, engine: Engine) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    bundle = load_bundle(locate_bundle("default"))
    [face] = build_detector("yuface").detect(astronaut)
    crop = align(astronaut, face.landmarks, bundle.manifest.input.alignment, bundle.manifest.input.size)
    crops = [crop, *(Augmentation().apply(crop, 112, np.random.default_rng(seed)) for seed in range(7))]
    with torch.inference_mode():
        logits = logits_of(bundle.network, image_batch(crops, bundle.manifest.input), bundle.manifest.input)
    expected = torch.cat([getattr(logits, task) for task in TASKS], dim=1)
    assert (expected.amax(dim=0) - expected.amin(dim=0)).min() > 0.01  # the crops differ
    found = Predictor([bundle], "cpu", RuntimeOptions(engine)).outputs([[crop] for crop in crops])
    assert np.array(found) == pytest.approx(expected.numpy(), abs=1e-3)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_face_alone_is_answered_as_among_others(astronaut: np.ndarray, engine: Engine, precision: Precision) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    bundle = load_bundle(locate_bundle("default"))
    [face] = build_detector("yuface").detect(astronaut)
    crop = align(astronaut, face.landmarks, bundle.manifest.input.alignment, bundle.manifest.input.size)
    crops = [Augmentation().apply(crop, 112, np.random.default_rng(seed)) for seed in range(6)]
    predictor = Predictor([bundle], "cpu", RuntimeOptions(engine, precision))
    alone = [predictor.outputs([[crop]])[0] for crop in crops]
    together = predictor.outputs([[crop] for crop in crops])
    # Raw outputs differ by up to 20 between faces, and rounding to bfloat16 by 0.1.
    assert np.array(alone) == pytest.approx(np.array(together), abs=0.2)


def test_a_smile(client: TestClient, astronaut: np.ndarray) -> None:
    [face] = frame(client, encoded(astronaut, ".png"))
    assert face["expression"]["label"] == "happiness"
    assert face["action_units"]["AU12"]["active"]
    assert face["valence"] > 0.3
    assert not face["eyes_closed"]["active"]
    assert face["eyes_closed"]["probability"] < 0.1
    assert face["quality"]["reliable"]


def test_five_faces(client: TestClient, shared_data: Path) -> None:
    faces = frame(client, (shared_data / "media" / "multi_face.jpg").read_bytes())
    assert len(faces) == 5
    areas = [face["box"]["width"] * face["box"]["height"] for face in faces]
    assert areas == sorted(areas, reverse=True)


def test_one_person_is_one_track(client: TestClient, shared_data: Path) -> None:
    [track] = video(client, shared_data / "media" / "single_face.mp4")
    assert len(track["samples"]) == 12  # 2.4 s at 5 frames a second


def test_nobody_is_no_track(client: TestClient, shared_data: Path) -> None:
    assert video(client, shared_data / "media" / "no_face.mp4") == []
