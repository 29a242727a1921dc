import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import (
    MANIFEST,
    WEIGHTS,
    Bundle,
    BundleError,
    code_version,
    load_bundle,
    locate_bundle,
    record_gate,
    save_bundle,
)
from model_core.bundles.manifest import BundleManifest, PrecisionGate, TemporalSpec, UnitNote, manifest_values
from model_core.calibration import Calibration, ChangeLimits, ExpressionCalibration
from model_core.models.clip import ClipSource, load_clip
from model_core.models.registry import build_network
from model_core.models.spec import EstimatorSpec, NetworkSpec
from tests.conftest import TINY_CALIBRATION
from tests.fakes import Hostile
from tests.tiny_clip import TINY, write_tiny_clip


@pytest.fixture(scope="module")
def bundle(tiny_bundle_dir: Path) -> Bundle:
    return load_bundle(tiny_bundle_dir)


@pytest.fixture
def copy(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return shutil.copytree(tiny_bundle_dir, tmp_path / "damaged")


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def rehash(folder: Path) -> None:
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    edit(folder, lambda values: values.update(weights_sha256=digest))


def error_of(folder: Path) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert message.startswith(f"bundle {folder.name}: ")
    assert "\n" not in message
    return message


def test_what_is_saved_comes_back(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.name == "tests-only-untrained"
    assert manifest.calibration == TINY_CALIBRATION
    assert manifest.calibration.change_limits == ChangeLimits()
    assert manifest.network.labels[0] == "neutral"
    assert manifest.input.mean == (0.5, 0.5, 0.5)
    assert manifest.code_version == code_version()
    assert not bundle.network.training
    assert {parameter.dtype for parameter in bundle.network.parameters()} == {torch.float32}


def test_a_bundle_from_before_there_were_notes_has_none(copy: Path) -> None:
    edit(copy, lambda values: values.pop("unit_notes"))
    assert load_bundle(copy).manifest.unit_notes is None


def test_notes_on_units_come_back(bundle: Bundle, tmp_path: Path) -> None:
    notes = {name: UnitNote("rendered", 0.75, 0.875, "derived") for name in ACTION_UNITS} | {"AU15": UnitNote("none")}
    save_bundle(tmp_path / "b", replace(bundle.manifest, unit_notes=notes), bundle.network)
    assert load_bundle(tmp_path / "b").manifest.unit_notes == notes


def test_outputs_survive_but_for_float16_rounding(bundle: Bundle, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = build_network(bundle.manifest.network).eval()
    saved = save_bundle(tmp_path / "b", replace(bundle.manifest, weights_sha256=""), network)
    again = load_bundle(tmp_path / "b")
    assert again.manifest == saved
    image = torch.randn(1, 3, 112, 112)
    with torch.inference_mode():
        before, after = vars(network(image)), vars(again.network(image))
    for task, values in before.items():
        torch.testing.assert_close(after[task], values, rtol=0, atol=2e-3)
    state = again.network.state_dict()
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float() if tensor.ndim > 1 else tensor
        assert torch.equal(state[name], expected), name


def test_a_temporal_bundle_comes_back(bundle: Bundle, tmp_path: Path) -> None:
    spec = replace(bundle.manifest.network, recurrent=6, hidden=4)
    torch.manual_seed(5)
    network = build_network(spec, bundle.network.backbone).eval()
    manifest = replace(bundle.manifest, network=spec, temporal=TemporalSpec(30.0, 10, "reset", 0.5))
    saved = save_bundle(tmp_path / "b", manifest, network)
    again = load_bundle(tmp_path / "b")
    assert again.manifest == saved
    assert saved.temporal == TemporalSpec(30.0, 10, "reset", 0.5)
    vectors = torch.randn(1, 5, 512)
    before, after = network.forward_sequence(vectors)[0], again.network.forward_sequence(vectors)[0]
    torch.testing.assert_close(after.action_units, before.action_units, rtol=0, atol=2e-3)


def test_a_clip_bundle_holds_its_tower_and_its_prompts(bundle: Bundle, tmp_path: Path) -> None:
    clip = load_clip(ClipSource(TINY, str(write_tiny_clip(tmp_path))), ("A face.", "No face.", "A cup."))
    spec = NetworkSpec("clip", ("expression",), ("face", "none", "cup"), tower=clip.encoder.spec)
    network = build_network(spec, clip.encoder).eval()
    network.heads["expression"].text.copy_(clip.text)
    manifest = replace(
        bundle.manifest,
        network=spec,
        input=clip.encoder.input("arcface-1"),
        references={"expression": "annotated"},
        calibration=Calibration(),
    )
    saved = save_bundle(tmp_path / "b", manifest, network)
    again = load_bundle(tmp_path / "b")
    assert again.manifest == saved
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again.network(image).expression, network(image).expression, rtol=0, atol=0.05)
    edit(tmp_path / "b", lambda values: values["network"]["tower"]["vision"].update(turns=3))
    assert "open_clip cannot build this image tower" in error_of(tmp_path / "b")


def test_weights_rest_in_float16_without_training_counters(tiny_bundle_dir: Path) -> None:
    tensors = load_file(tiny_bundle_dir / WEIGHTS)
    assert {t.dtype for t in tensors.values() if t.ndim > 1} == {torch.float16}
    assert {t.dtype for t in tensors.values() if t.ndim <= 1} == {torch.float32}
    assert not any("num_batches_tracked" in name for name in tensors)


def test_two_files_that_do_not_belong_together(copy: Path) -> None:
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    assert "weights.safetensors: it does not match the SHA-256 in bundle.json" in error_of(copy)


NAME = "heads.expression.weight"
TEMPORAL = {"frame_rate": 30, "window": 10, "state": "reset", "max_gap_s": 0.5}


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[NAME]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["heads.gaze.weight"] = torch.zeros(2)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors[NAME] = tensors[NAME][:7].contiguous()


def poison(tensors: dict[str, Tensor]) -> None:
    tensors[NAME][0, 0] = float("nan")


def retype(tensors: dict[str, Tensor]) -> None:
    tensors[NAME] = tensors[NAME].double()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop, f"missing {NAME}"),
        (add, "unexpected heads.gaze.weight"),
        (reshape, f"{NAME} is (7, 512), expected (8, 512)"),
        (poison, f"{NAME} is not finite"),
        (retype, f"{NAME} is not finite float16 or float32"),
    ],
)
def test_tensors_that_do_not_fit(copy: Path, change: Callable[[dict[str, Tensor]], None], reason: str) -> None:
    tensors = load_file(copy / WEIGHTS)
    change(tensors)
    save_file(tensors, copy / WEIGHTS)
    rehash(copy)
    message = error_of(copy)
    assert reason in message
    assert ";" not in message


def test_many_deviations_make_a_short_message(copy: Path) -> None:
    save_file({"a": torch.zeros(1)}, copy / WEIGHTS)
    rehash(copy)
    message = error_of(copy)
    assert message.count(";") == 2
    assert " more" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v.update(surprise=1), "BundleManifest does not know ['surprise']"),
        (lambda v: v["network"].update(depth=3), "NetworkSpec does not know ['depth']"),
        (lambda v: v["input"].update(gamma=2), "InputSpec does not know ['gamma']"),
        (lambda v: v["calibration"].update(gaze=None), "Calibration does not know ['gaze']"),
        (lambda v: v["calibration"]["action_units"]["AU1"].update(power=2), "UnitCalibration does not know ['power']"),
        (lambda v: v.update(format=2), "its format is not 1"),
        (lambda v: v.pop("format"), "its format is not 1"),
        (lambda v: v.update(temporal=TEMPORAL), "a recurrent network needs temporal settings, and no other has any"),
        (lambda v: v["network"].update(recurrent=8), "a recurrent network needs temporal settings"),
        (lambda v: v.update(temporal={**TEMPORAL, "stride": 1}), "TemporalSpec does not know ['stride']"),
        (lambda v: v.update(temporal={**TEMPORAL, "state": "kept"}), "unknown temporal state 'kept'"),
        (lambda v: v.update(temporal={**TEMPORAL, "max_gap_s": 0}), "longest gap must be positive"),
        (lambda v: v["network"].update(backbone="clip"), "the backbone clip needs a tower"),
        (lambda v: v["network"].update(tower={"depth": 1}), "TowerSpec does not know ['depth']"),
        (lambda v: v["network"]["labels"].pop(), "8 expression biases for 7 labels"),
        (lambda v: v["network"].update(backbone="resnet"), "unknown backbone 'resnet'"),
        (lambda v: v["network"].update(hidden=-1), "hidden"),
        (lambda v: v["network"].update(estimator={"outputs": 4, "hidden": 0}), "estimator of changes must be positive"),
        (lambda v: v["network"].update(estimator={"outputs": 4, "hidden": 8}), "unit_changes needs an estimator"),
        (lambda v: v["network"].update(estimator={"width": 4}), "EstimatorSpec does not know ['width']"),
        (lambda v: v["input"].update(alignment="none"), "unknown alignment 'none'"),
        (lambda v: v["references"].pop("expression"), "references must name exactly the network's tasks"),
        (lambda v: v["references"].update(expression="guessed"), "annotated, derived, rendered"),
        (lambda v: v["calibration"]["expression"].update(temperature=0), "temperature must be positive"),
        (lambda v: v["calibration"]["action_units"].pop("AU26"), "a calibration must name the units"),
        (lambda v: v["calibration"].update(action_units=[1]), "must be an object"),
        (lambda v: v["calibration"].update(change_limits={"gaze": 1}), "ChangeLimits does not know ['gaze']"),
        (lambda v: v["calibration"].update(change_limits={"action_units": {"AU1": 1}}), "must name the units"),
        (lambda v: v["calibration"].update(change_limits=None), "ChangeLimits does not know None"),
        (lambda v: v.update(network=None), "NetworkSpec does not know None"),
        (lambda v: v.pop("licence"), "licence"),
        (lambda v: v.pop("network"), "network"),
        (lambda v: v.update(unit_notes={"AU1": {"validated": "none"}}), "notes must name exactly the units AU1, AU2"),
        (lambda v: v.update(unit_notes={"AU1": {"validated": "people"}}), "cannot be validated by 'people'"),
        (lambda v: v.update(unit_notes={"AU1": {"validated": "none", "r": 2}}), "a correlation lies within -1 and 1"),
        (
            lambda v: v.update(unit_notes={"AU1": {"validated": "none", "change_r": -2}}),
            "a correlation lies within -1 and 1",
        ),
        (lambda v: v.update(unit_notes={"AU1": {"validated": "none", "auroc": -1}}), "an AUROC lies within 0 and 1"),
        (
            lambda v: v.update(unit_notes={"AU1": {"validated": "none", "change_auroc": 2}}),
            "an AUROC lies within 0 and 1",
        ),
        (lambda v: v.update(unit_notes={"AU1": {"sure": 1}}), "UnitNote does not know ['sure']"),
    ],
)
def test_a_manifest_that_is_not_understood(copy: Path, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    edit(copy, change)
    assert reason in error_of(copy)


def test_limits_of_changes_are_written_where_they_were_fitted(bundle: Bundle, tmp_path: Path) -> None:
    limits = ChangeLimits({"valence": 0.125, "arousal": 0.25}, dict.fromkeys(ACTION_UNITS, 1.5))
    fitted = replace(bundle.manifest, calibration=replace(TINY_CALIBRATION, change_limits=limits))
    for folder, manifest in (("with", fitted), ("without", bundle.manifest)):
        save_bundle(tmp_path / folder, manifest, bundle.network)
        assert load_bundle(tmp_path / folder).manifest.calibration == manifest.calibration
        values = json.loads((tmp_path / folder / MANIFEST).read_text())["calibration"]
        assert ("change_limits" in values) == (folder == "with")


def test_an_estimator_is_written_where_there_is_one(bundle: Bundle, tmp_path: Path) -> None:
    spec = NetworkSpec("mfn-pooled", ("unit_changes",), estimator=EstimatorSpec(5, 7))
    manifest = replace(
        bundle.manifest, network=spec, calibration=Calibration(), references={"unit_changes": "rendered"}
    )
    assert "estimator" not in manifest_values(bundle.manifest)["network"]
    save_bundle(tmp_path / "b", replace(manifest, unit_notes=None), build_network(spec))
    loaded = load_bundle(tmp_path / "b")
    assert loaded.manifest.network == spec
    assert spec.widths == {"unit_changes": 5}
    assert loaded.network.estimator(torch.zeros(2, 5)).tolist() == [[0.0] * 24] * 2


def test_another_count_of_labels_than_the_weights_have(copy: Path) -> None:
    def nine(values: dict[str, Any]) -> None:
        values["network"]["labels"].append("boredom")
        values["calibration"]["expression"] = None

    edit(copy, nine)
    assert f"{NAME} is (8, 512), expected (9, 512)" in error_of(copy)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '"text"', "\udcff"])
def test_a_manifest_that_is_no_manifest(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_bytes(content.encode(errors="surrogateescape"))
    error_of(copy)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert "cannot be read (No such file or directory)" in error_of(copy)


@pytest.mark.parametrize("write", [pickle.dumps, lambda value: b"", lambda value: b"\xff" * 100])
def test_weights_that_are_no_safetensors(copy: Path, write: Callable[[Any], bytes]) -> None:
    trace = copy / "it-ran"
    (copy / WEIGHTS).write_bytes(write(Hostile(trace)))
    assert "SHA-256" in error_of(copy)
    rehash(copy)
    error_of(copy)
    assert not trace.exists()


def test_saving_never_overwrites(copy: Path, bundle: Bundle) -> None:
    with pytest.raises(FileExistsError, match="exists; choose another folder"):
        save_bundle(copy, bundle.manifest, bundle.network)


def test_weights_beyond_float16_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    network = build_network(bundle.manifest.network)
    torch.nn.init.constant_(network.heads["expression"].weight, 1e6)
    with pytest.raises(ValueError, match=f"{NAME} has values that float16 cannot hold"):
        save_bundle(tmp_path / "b", bundle.manifest, network)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_values_that_are_not_json_leave_nothing_behind(tmp_path: Path, bundle: Bundle, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="JSON"):
        save_bundle(tmp_path / "b", replace(bundle.manifest, quality={"f1": value}), bundle.network)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_bundle_and_may_be_tried_again(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str, **options: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            save_bundle(tmp_path / "b", bundle.manifest, bundle.network)
    assert not (tmp_path / "b").exists()
    save_bundle(tmp_path / "b", bundle.manifest, bundle.network)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_locating(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    assert locate_bundle(str(tiny_bundle_dir)) == tiny_bundle_dir
    assert locate_bundle("ferplus-ddamfn") == locate_bundle("default")  # as /models names it
    with pytest.raises(BundleError, match="there is no bundle 'nowhere': it is neither shipped nor a folder"):
        locate_bundle("nowhere")
    with pytest.raises(BundleError, match="neither shipped"):
        locate_bundle(str(tmp_path))


def test_a_manifest_checks_itself(bundle: Bundle) -> None:
    def with_bias(count: int) -> BundleManifest:
        return replace(bundle.manifest, calibration=Calibration(ExpressionCalibration(1.0, (0.0,) * count)))

    with_bias(8)
    with pytest.raises(ValueError, match="7 expression biases for 8 labels"):
        with_bias(7)


GATE = PrecisionGate("bfloat16", "openvino", "2026.4", "a set", 1000, 0.995, 0.003, 0.03, 0.003)


def test_a_gate_is_recorded_beside_the_weights_and_what_else_is_known(copy: Path) -> None:
    before = load_bundle(copy).manifest
    assert "precision_gate" not in json.loads((copy / MANIFEST).read_text())  # earlier versions would not know it
    record_gate(copy, GATE)
    assert load_bundle(copy).manifest == replace(before, precision_gate=GATE)
    assert sorted(path.name for path in copy.iterdir()) == [MANIFEST, WEIGHTS]


@pytest.mark.parametrize(
    "change", [{"same_label": 0.9949}, {"mean_change": 0.0031}, {"change_999": 0.031}, {"accuracy_change": 0.0031}]
)
def test_each_limit_of_the_gate_counts(change: dict[str, float]) -> None:
    assert GATE.passed
    assert replace(GATE, same_label=None, accuracy_change=None).passed
    assert not replace(GATE, **change).passed


@pytest.mark.parametrize(
    "change", [{"precision": "int8"}, {"engine": "onnx"}, {"faces": 0}, {"same_label": -0.1}, {"mean_change": 2.1}]
)
def test_an_impossible_gate_is_refused(copy: Path, change: dict[str, Any]) -> None:
    record_gate(copy, GATE)
    edit(copy, lambda values: values["precision_gate"].update(change))
    assert "bundle.json" in error_of(copy)
