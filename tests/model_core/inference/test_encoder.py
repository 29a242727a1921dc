from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import TASKS, Affect, Task
from model_core.bundles.bundle import Bundle, load_bundle, save_bundle
from model_core.bundles.manifest import BundleManifest, TemporalSpec
from model_core.calibration import AxisCalibration, Calibration
from model_core.faces.geometry import Crop
from model_core.inference.encoder import grouped
from model_core.inference.predictor import Predictor, answering
from model_core.inference.runtimes import Engine, RuntimeOptions
from model_core.models.clip import ClipSource, load_clip
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import to_batch
from tests.tiny_bundles import INPUT, TinyBackbone, resized, tiny_bundle
from tests.tiny_clip import TINY, write_tiny_clip

SPEC = TemporalSpec(10.0, 3, "carried", 0.5)


def crops(count: int, size: int = 16) -> list[Crop]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def alone(bundle: Bundle, task: str, images: list[Crop]) -> np.ndarray:
    """A task's outputs by the bundle's own network, [B, d]."""
    with torch.inference_mode():
        logits = bundle.network(torch.from_numpy(to_batch(images, bundle.manifest.input)))
    return getattr(logits, task).double().numpy()


def test_bundles_with_one_backbone_share_its_forward_pass() -> None:
    backbone = TinyBackbone()
    first = tiny_bundle("first", "valence_arousal", "expression", backbone=backbone)
    second = tiny_bundle("second", "action_units", backbone=backbone)
    predictor = Predictor([first, second])
    backbone.calls.clear()
    outputs = predictor.outputs([[crop] for crop in crops(5)])
    assert backbone.calls == [5]
    expected = [alone(first, "valence_arousal", crops(5)), alone(first, "expression", crops(5))]
    expected.append(alone(second, "action_units", crops(5)))
    assert np.stack(outputs) == pytest.approx(np.concatenate(expected, axis=1), abs=1e-5)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_face_and_its_mirror_image_get_the_mean_of_both_answers(engine: Engine) -> None:
    bundle = tiny_bundle("mirrored", "expression", backbone=TinyBackbone(), spec=replace(INPUT, with_mirror_image=True))
    predictor = Predictor([bundle], options=RuntimeOptions(engine))
    faces, mirrored = crops(3), [crop[:, ::-1] for crop in crops(3)]
    both = [alone(bundle, "expression", each) for each in (faces, mirrored)]
    assert abs(both[0] - both[1]).max() > 0.01
    answers = [np.stack(predictor.outputs([[crop] for crop in each])) for each in (faces, mirrored)]
    assert answers[0] == pytest.approx((both[0] + both[1]) / 2, abs=1e-5)
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_oriented_face_and_its_mirror_image_get_the_answer_to_the_brighter_left(engine: Engine) -> None:
    bundle = tiny_bundle("oriented", "expression", backbone=TinyBackbone(), spec=replace(INPUT, oriented=True))
    predictor = Predictor([bundle], options=RuntimeOptions(engine))
    left = [crop // 2 + np.uint8([100] * 8 + [0] * 8)[:, None] for crop in crops(3)]
    right = [crop[:, ::-1] for crop in left]
    expected = alone(bundle, "expression", left)
    assert abs(expected - alone(bundle, "expression", right)).max() > 0.01
    for faces in (left, right):
        assert np.stack(predictor.outputs([[crop] for crop in faces])) == pytest.approx(expected, abs=1e-5)


def test_a_lone_face_is_read_twice_only_where_its_halves_are_as_bright() -> None:
    backbone = TinyBackbone()
    bundle = tiny_bundle("oriented", "expression", backbone=backbone, spec=replace(INPUT, oriented=True))
    predictor = Predictor([bundle])
    lit = np.zeros((16, 16, 3), np.uint8)
    lit[:, :8] = 200
    calls = []
    for faces in ([lit], [np.full_like(lit, 90)], [lit, np.full_like(lit, 90)]):
        backbone.calls.clear()
        predictor.outputs([[face] for face in faces])
        calls.append(list(backbone.calls))
    assert calls == [[1], [1, 1], [3]]


def test_each_task_is_the_last_bundles_that_covers_it() -> None:
    everything = tiny_bundle("all", "valence_arousal", "expression", "action_units", backbone=TinyBackbone(0))
    shifted = Calibration(valence_arousal=dict.fromkeys(("valence", "arousal"), AxisCalibration(0.0, 0.25, 1.0)))
    axes = tiny_bundle("axes", "valence_arousal", backbone=TinyBackbone(1), calibration=shifted)
    predictor = Predictor([everything, axes])
    assert [manifest.name for manifest in predictor.everything.tasks.values()] == ["axes", "all", "all"]
    faces = [[crop, crop] for crop in crops(2)]
    first, second = predictor.predict(faces)
    assert (first.valence, first.arousal, second.valence) == (0.25, 0.25, 0.25)  # its calibration goes along
    [other, _] = Predictor([everything]).predict([[crop] for crop in crops(2)])
    assert first.expression.probabilities == pytest.approx(other.expression.probabilities, abs=1e-5)
    assert tuple(predictor.everything.tasks) == ("valence_arousal", "expression", "action_units")


@pytest.mark.parametrize(
    ("change", "groups"),
    [
        ({}, [[0, 1]]),
        ({"backbone": TinyBackbone(0)}, [[0, 1]]),
        ({"backbone": TinyBackbone(1)}, [[0], [1]]),
        ({"spec": resized(INPUT, 20)}, [[0], [1]]),
        ({"temporal": SPEC}, [[0, 1]]),
    ],
    ids=["the same", "equal weights", "other weights", "another size", "with memory"],
)
def test_who_shares_an_encoder(change: dict, groups: list[list[int]]) -> None:
    backbone = TinyBackbone(0)
    one = tiny_bundle("one", "expression", backbone=backbone)
    assert grouped([one, tiny_bundle("two", "action_units", **{"backbone": backbone} | change)]) == groups


def test_encoders_of_other_sizes_get_crops_of_their_own() -> None:
    small = tiny_bundle("small", "expression", backbone=TinyBackbone(0))
    large = tiny_bundle("large", "action_units", backbone=TinyBackbone(0), spec=resized(INPUT, 24))
    predictor = Predictor([small, large])
    assert [encoder.input.size for encoder in predictor.encoders] == [16, 24]
    [found] = predictor.outputs([[crops(1)[0], crops(1, 24)[0]]])
    expected = [alone(small, "expression", crops(1))[0], alone(large, "action_units", crops(1, 24))[0]]
    assert found == pytest.approx(np.concatenate(expected), abs=1e-5)
    with pytest.raises(ValueError, match="the model expects uint8"):
        predictor.outputs([[crops(1, 24)[0], crops(1)[0]]])


def test_a_bundle_whose_tasks_are_all_covered_is_let_go() -> None:
    backbone = TinyBackbone()
    covered = tiny_bundle("covered", "expression", backbone=backbone)
    both = tiny_bundle("both", "expression", "action_units", backbone=backbone)
    predictor = Predictor([covered, both])
    assert [manifest.name for manifest in predictor.idle] == ["covered"]
    assert [manifest.name for manifest in predictor.manifests] == ["both"]
    with pytest.raises(ValueError, match="there must be a bundle"):
        Predictor([])


def test_a_framewise_bundle_stays_for_those_who_want_no_memory() -> None:
    backbone = TinyBackbone()
    plain = tiny_bundle("plain", "expression", backbone=backbone)
    remembers = tiny_bundle("remembers", "expression", "action_units", backbone=backbone, temporal=SPEC)
    assert answering([plain.manifest, remembers.manifest]) == [0, 1]
    assert answering([remembers.manifest, plain.manifest]) == [0, 1]
    predictor = Predictor([plain, remembers])
    assert [manifest.name for manifest in predictor.everything.tasks.values()] == ["remembers", "remembers"]
    assert [manifest.name for manifest in predictor.framewise.tasks.values()] == ["plain"]
    assert (predictor.everything.temporal, predictor.framewise.temporal) == (True, False)
    features = predictor.encoders[0].features(crops(3))
    assert np.stack(predictor.framewise.outputs(features)) == pytest.approx(
        alone(plain, "expression", crops(3)), abs=1e-5
    )
    # A picture is the first frame of a track.
    units = alone(remembers, "action_units", crops(3))
    assert np.stack(predictor.everything.outputs(features))[:, 8:] == pytest.approx(units, abs=1e-5)


def tasks_of(*tasks: Task, remembers: bool = False) -> BundleManifest:
    return tiny_bundle("any", *tasks, backbone=TinyBackbone(), temporal=SPEC if remembers else None).manifest


POOL = [tasks_of(*tasks, remembers=memory) for memory in (False, True) for tasks in (("expression",), TASKS[:2], TASKS)]


@given(st.lists(st.sampled_from(POOL), min_size=1, max_size=6))
def test_whoever_is_used_is_the_last_for_something_and_every_task_is_answered(manifests: list[BundleManifest]) -> None:
    used = answering(manifests)
    wanted = {
        max(i for i, manifest in enumerate(chosen) if manifest and task in manifest.network.tasks)
        for chosen in (manifests, [manifest if manifest.temporal is None else None for manifest in manifests])
        for task in TASKS
        if any(manifest and task in manifest.network.tasks for manifest in chosen)
    }
    assert used == sorted(wanted)


def test_each_track_has_a_state_of_its_own_until_it_is_dropped() -> None:
    bundle = tiny_bundle("remembers", "expression", backbone=TinyBackbone(), temporal=SPEC)
    predictor = Predictor([bundle])
    one, other, *_ = features = predictor.encoders[0].features(crops(4))
    states = predictor.everything.track_states()
    for i, each in enumerate(features):
        states.step(1, each, 0.1 * i)
        found = states.step(2, other, 0.1 * i)
    with torch.inference_mode():
        vectors = torch.from_numpy(np.stack([other] * 4)).float()[None]
        logits, _ = bundle.network.forward_sequence(vectors)
    assert found == pytest.approx(logits.expression[0, -1].double().numpy(), abs=1e-5)
    states.keep([2, 3])
    # The first track starts anew, with the output of a single face; the second goes on.
    [single] = predictor.everything.outputs([one])
    assert states.step(1, one, 0.4) == pytest.approx(single, abs=1e-6)
    assert np.abs(states.step(2, other, 0.4) - predictor.everything.outputs([other])[0]).max() > 1e-3
    assert states._memories.keys() == {1, 2}


def test_a_saved_backbone_is_known_again(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle_dir)
    spec = NetworkSpec("ddamfn", ("expression",), bundle.manifest.network.labels, recurrent=8)
    manifest = replace(
        bundle.manifest, network=spec, temporal=SPEC, references={"expression": "annotated"}, calibration=Calibration()
    )
    save_bundle(tmp_path / "lstm", manifest, build_network(spec, bundle.network.backbone))
    assert grouped([load_bundle(tiny_bundle_dir), load_bundle(tmp_path / "lstm")]) == [[0, 1]]


def test_clip_runs_beside_another_backbone(tmp_path: Path) -> None:
    clip = load_clip(ClipSource(TINY, str(write_tiny_clip(tmp_path))), ("A face.", "No face."))
    other = tiny_bundle("other", "expression", "action_units", backbone=TinyBackbone())
    bundles = [other]
    for temporal in (None, SPEC):
        recurrent = 6 if temporal else None
        spec = NetworkSpec("clip", ("expression",), ("face", "none"), recurrent=recurrent, tower=clip.encoder.spec)
        network = build_network(spec, clip.encoder).eval()
        network.heads["expression"].text.copy_(clip.text)
        manifest = replace(
            other.manifest,
            network=spec,
            input=clip.encoder.input("ddamfn-frontal-1"),
            references={"expression": "annotated"},
            temporal=temporal,
        )
        bundles.append(Bundle.of(manifest, network))
    predictor = Predictor(bundles)
    assert [(encoder.input.size, encoder.input.alignment) for encoder in predictor.encoders] == [
        (16, "arcface-1"),
        (32, "ddamfn-frontal-1"),
    ]
    features = np.concatenate(
        [predictor.encoders[0].features(crops(3)), predictor.encoders[1].features(crops(3, 32))], axis=1
    )
    for ensemble, bundle in ((predictor.framewise, bundles[1]), (predictor.everything, bundles[2])):
        outputs = np.stack(ensemble.outputs(list(features)))
        assert outputs[:, :2] == pytest.approx(alone(bundle, "expression", crops(3, 32)), abs=1e-4)
        assert outputs[:, 2:] == pytest.approx(alone(other, "action_units", crops(3)), abs=1e-5)


def test_without_any_bundle_for_it_an_answer_is_empty() -> None:
    predictor = Predictor([tiny_bundle("remembers", "expression", backbone=TinyBackbone(), temporal=SPEC)])
    features = predictor.encoders[0].features(crops(2))
    assert predictor.framewise.affects(predictor.framewise.outputs(features)) == [Affect(), Affect()]


def test_openvino_runs_a_shared_encoder() -> None:
    pytest.importorskip("openvino")
    backbone = TinyBackbone()
    plain = tiny_bundle("plain", "valence_arousal", backbone=backbone)
    remembers = tiny_bundle("remembers", "expression", backbone=backbone, temporal=SPEC)
    faces = [[crop] for crop in crops(3)]
    expected = Predictor([plain, remembers]).outputs(faces)
    found = Predictor([plain, remembers], "cpu", RuntimeOptions("openvino")).outputs(faces)
    assert np.stack(found) == pytest.approx(np.stack(expected), abs=1e-3)
