"""Several bundles behind one service: who answers, how often networks run, and memory over a video's frames."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from model_core.bundles.bundle import Bundle
from model_core.bundles.manifest import TemporalSpec
from model_core.calibration import AxisCalibration, Calibration, ExpressionCalibration
from model_core.faces.alignment import align
from model_core.inference.predictor import Predictor
from model_core.inference.smoothing import CausalSmoother
from model_core.preprocessing import to_batch
from service.app import create_app
from service.media.limits import DecodeLimits
from service.media.videos import Window, open_video
from service.settings import Settings
from tests.service.fakes import FakeDetector, face_at
from tests.service.media_files import mp4, png
from tests.tiny_bundles import INPUT, TinyBackbone, resized, tiny_bundle

FACE = face_at(8, 8, 32)
LEVELS = [40, 200, 90, 230, 20, 160, 70, 250, 120, 30, 180, 60]
CALIBRATION = Calibration(
    ExpressionCalibration(0.5, (0.1,) * 8),
    valence_arousal={"valence": AxisCalibration(0.8, 0.1, 0.5), "arousal": AxisCalibration(1.0, 0.0, 0.5)},
)


@contextmanager
def serving(*bundles: Bundle, **settings: object) -> Iterator[TestClient]:
    app = create_app(Settings(**settings), FakeDetector(FACE), Predictor(bundles))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def answer(client: TestClient, route: str, content: bytes, **params: object) -> dict:
    response = client.post(f"/analyze/{route}", files={"file": content}, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def everything(backbone: TinyBackbone) -> Bundle:
    return tiny_bundle("everything", "valence_arousal", "expression", "action_units", backbone=backbone)


def remembering(backbone: TinyBackbone, state: str = "carried", frame_rate: float = 10.0) -> Bundle:
    spec = TemporalSpec(frame_rate, 4, state, 0.5)
    return tiny_bundle(
        "remembers", "valence_arousal", "expression", backbone=backbone, temporal=spec, calibration=CALIBRATION
    )


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return mp4(tmp_path / "clip.mp4", LEVELS)


def test_the_answer_tells_who_answered() -> None:
    axes = tiny_bundle("axes", "valence_arousal", backbone=TinyBackbone(1), spec=resized(INPUT, 24))
    with serving(everything(TinyBackbone()), axes) as client:
        tasks = answer(client, "frame", png(100))["model"]["tasks"]
        assert {task: told["bundle"] for task, told in tasks.items()} == {
            "valence_arousal": "axes",
            "expression": "everything",
            "action_units": "everything",
        }
        assert tasks["valence_arousal"]["sha256"] == axes.manifest.weights_sha256
        told = {bundle["name"]: bundle for bundle in client.get("/models").json()["bundles"]}
        metrics = client.get("/metrics").text
    assert told["everything"]["answers"] == ["expression", "action_units"]
    assert set(told["everything"]["tasks"]) == {"valence_arousal", "expression", "action_units"}
    assert (told["axes"]["answers"], told["axes"]["input"]["size"]) == (["valence_arousal"], 24)
    labels = 'device="cpu",engine="torch",precision="float32",version="1"'
    loaded = re.findall(rf'affect_model_info{{bundle="(\w+)",{labels}}} 1', metrics)
    assert loaded == ["everything", "axes"]


def test_a_baseline_is_what_a_bundle_with_memory_says_of_a_single_face() -> None:
    backbone = TinyBackbone()
    with serving(everything(backbone), remembering(backbone)) as client:
        [rest], [face] = (answer(client, "frame", png(level))["faces"] for level in (40, 200))
        files = {"file": png(200), "baseline": png(40)}
        [compared] = client.post("/analyze/frame", files=files).json()["faces"]
    assert compared["valence"] == face["valence"]
    assert compared["change"]["valence"]["value"] == pytest.approx(face["valence"] - rest["valence"])
    assert abs(compared["change"]["valence"]["value"]) > 1e-4
    for name, unit in face["action_units"].items():
        expected = unit["probability"] - rest["action_units"][name]["probability"]
        assert compared["change"][name]["value"] == pytest.approx(expected)


def test_a_shared_encoder_runs_once_a_crop_and_others_by_themselves() -> None:
    shared, other = TinyBackbone(), TinyBackbone(1)
    units = tiny_bundle("units", "action_units", backbone=shared)
    expressions = tiny_bundle("expressions", "expression", backbone=other, spec=resized(INPUT, 24))
    with serving(everything(shared), units, expressions) as client:
        shared.calls.clear()
        other.calls.clear()
        for _ in range(3):
            answer(client, "frame", png(100))
    assert (shared.calls, other.calls) == ([1, 1, 1], [1, 1, 1])


def test_ready_means_every_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = tiny_bundle("axes", "valence_arousal", backbone=TinyBackbone(1))
    predictor = Predictor([everything(TinyBackbone()), axes])
    app = create_app(Settings(), FakeDetector(FACE), predictor)
    with TestClient(app, raise_server_exceptions=False) as client, monkeypatch.context() as patched:

        def fail(crops: object) -> None:
            raise RuntimeError("broken")

        patched.setattr(predictor.encoders[1], "features", fail)
        assert client.get("/readyz").json()["detail"] == "a forward pass failed (RuntimeError)"
        assert client.post("/analyze/frame", files={"file": png(100)}).status_code == 500
        patched.undo()
        assert client.get("/readyz").status_code == 200
        assert answer(client, "frame", png(100))["faces"]


def offline(bundle: Bundle, path: Path, count: int) -> np.ndarray:
    """Uncalibrated valence-arousal and expressions, [T, 10], of a clip's frames as one sequence."""
    spec = bundle.manifest.input
    video = open_video(path, DecodeLimits(1_000_000, 20, 100), Window(fps=100))
    crops = [align(timed.frame, FACE.landmarks, spec.alignment, spec.size) for timed in video]
    assert len(crops) == count
    with torch.inference_mode():
        logits, _ = bundle.network.forward_sequence(
            bundle.network.backbone(torch.from_numpy(to_batch(crops, spec)))[None]
        )
    return torch.cat([logits.valence_arousal[0], logits.expression[0]], dim=1).double().numpy()


def served(document: dict) -> np.ndarray:
    """Valence, arousal and expressions of the only track, [T, 10]."""
    [track] = document["tracks"]
    return np.array(
        [
            [sample["valence"], sample["arousal"], *sample["expression"]["probabilities"].values()]
            for sample in track["samples"]
        ]
    )


def calibrated(outputs: np.ndarray) -> np.ndarray:
    axes = CALIBRATION.valence_arousal_estimates(outputs[:, :2])
    return np.concatenate([axes, CALIBRATION.expression_probabilities(outputs[:, 2:])], axis=1)


def test_a_clip_is_answered_as_it_would_be_evaluated(clip: bytes, tmp_path: Path) -> None:
    bundle = remembering(TinyBackbone())
    expected = offline(bundle, tmp_path / "clip.mp4", 12)
    with serving(everything(bundle.network.backbone), bundle) as client:
        document = answer(client, "video", clip)
        smooth = answer(client, "video", clip, smoothing="causal")
    assert document["model"]["tasks"]["valence_arousal"]["bundle"] == "remembers"
    assert document["model"]["tasks"]["action_units"]["bundle"] == "everything"
    assert served(document) == pytest.approx(calibrated(expected), abs=1e-3)
    assert "temporal" in document["timings_ms"]
    # Memory, then smoothing, then calibration.
    smoother = CausalSmoother()
    steady = np.stack([smoother.update(row, 0.1 * i) for i, row in enumerate(expected)])
    assert served(smooth) == pytest.approx(calibrated(steady), abs=1e-3)


def test_a_state_that_was_reset_in_evaluation_is_reset(tmp_path: Path) -> None:
    bundle, content = remembering(TinyBackbone(), "reset"), mp4(tmp_path / "clip.mp4", LEVELS)
    with serving(bundle) as client:
        found = served(answer(client, "video", content))
        whole = calibrated(offline(bundle, tmp_path / "clip.mp4", 12))
        assert found[:4] == pytest.approx(whole[:4], abs=1e-3)
        assert np.abs(found[4:] - whole[4:]).max() > 0.01
        # The second window of four is what a clip that starts there says.
        later = served(answer(client, "video", content, start_s=0.4))
    assert found[4:] == pytest.approx(later, abs=1e-3)


def test_frames_beyond_the_trained_rate_are_held(clip: bytes) -> None:
    with serving(remembering(TinyBackbone(), frame_rate=5.0)) as client:
        found, slow = (served(answer(client, "video", clip, fps=fps)) for fps in (10, 5))
    assert found[::2] == pytest.approx(slow, abs=1e-6)
    assert found[1::2] == pytest.approx(slow, abs=1e-6)


def test_without_memory_the_framewise_bundle_answers(clip: bytes) -> None:
    backbone = TinyBackbone()
    with serving(everything(backbone)) as client:
        expected = answer(client, "video", clip)
    with serving(everything(backbone), remembering(backbone)) as client:
        document = answer(client, "video", clip, temporal="off")
        assert served(document) == pytest.approx(served(expected), abs=1e-5)
        assert document["model"] == expected["model"]
        assert np.abs(served(answer(client, "video", clip)) - served(expected)).max() > 0.01
    with serving(remembering(backbone)) as client:
        document = answer(client, "video", clip, temporal="off")
        assert document["model"]["tasks"] == {}
        assert not {"valence", "expression"} & set(document["tracks"][0]["samples"][0])


def test_a_picture_is_the_first_frame_of_a_track(clip: bytes) -> None:
    with serving(remembering(TinyBackbone())) as client:
        [face] = answer(client, "frame", png(LEVELS[0], 96, 64))["faces"]
        first = served(answer(client, "video", clip))[0]
    assert face["valence"] == pytest.approx(first[0], abs=0.02)  # a video's grey is a little off
    bundles = client.app.state.context.model.predictor.manifests
    assert [bundle.temporal.frame_rate for bundle in bundles] == [10.0]


@pytest.mark.parametrize(
    ("frame_rate", "params", "note"),
    [
        (5.0, {}, None),  # the bundle's rate is the default
        (5.0, {"fps": 5.02}, None),
        (
            5.0,
            {"fps": 10},
            "remembers was evaluated at 5 frames a second and gets 10: in between its last answer holds",
        ),
        (10.0, {"fps": 4}, "remembers was evaluated at 10 frames a second and gets 4"),
        (
            10.0,
            {"fps": 1.5},
            "remembers was evaluated at 10 frames a second and gets 1.5: after more than 0.5 s its memory starts anew, "
            "so each frame is judged alone",
        ),
        (30.0, {}, "remembers was evaluated at 30 frames a second and gets 10"),  # the clip has no more
        (30.0, {"temporal": "off"}, None),
    ],
)
def test_the_rate_is_the_bundles_and_another_one_is_noted(
    clip: bytes, frame_rate: float, params: dict, note: str | None
) -> None:
    backbone = TinyBackbone()
    with serving(everything(backbone), remembering(backbone, frame_rate=frame_rate)) as client:
        document = answer(client, "video", clip, **params)
        headers = {"accept": "application/x-ndjson"}
        stream = client.post("/analyze/video", files={"file": clip}, params=params, headers=headers)
        models = client.get("/models").json()
    notes = None if note is None else [note]
    assert document.get("notes") == json.loads(stream.text.splitlines()[0]).get("notes") == notes
    assert models["video_fps"] == frame_rate
    if (frame_rate, params) == (5.0, {}):
        assert document["video"]["frames_analyzed"] == 6  # of 12


def test_without_memory_ten_frames_a_second_are_the_default(tmp_path: Path) -> None:
    with serving(everything(TinyBackbone())) as client:
        document = answer(client, "video", mp4(tmp_path / "fast.mp4", [100] * 40, fps=20))
        assert client.get("/models").json()["video_fps"] == 10
    assert document["video"]["frames_analyzed"] == 20
