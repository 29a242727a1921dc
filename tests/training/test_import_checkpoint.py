import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model_core.affect import LABEL_SETS
from model_core.bundles.bundle import load_bundle
from model_core.inference.predictor import Predictor
from model_core.models import build_network
from tests.fakes import Hostile, formula_state
from tests.training.importing.upstream_module import mfn_state, nest, upstream_package
from training import import_checkpoint
from training.import_checkpoint import SPEC, convert, dead_entries
from training.runs.checkpoint import CheckpointError, save_trunk
from training.runs.start import start_from


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The published entries, in float32 as upstream stores them."""
    return {name: value if value.ndim == 0 else value.float() for name, value in formula_state().items()}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.import_checkpoint", *map(str, arguments)])
    import_checkpoint.main()


def test_221_entries_are_dead(state: dict[str, Tensor]) -> None:
    dead = dead_entries(build_network(SPEC))
    assert len(dead) == 221
    assert all(state[name].shape == shape for name, shape in dead.items())
    parameters = [name for name in dead if name.endswith(("weight", "bias"))]
    assert sum(state[name].numel() for name in parameters) == 81_424


def test_the_imported_network_answers_as_the_reference(state: dict[str, Tensor]) -> None:
    golden = json.loads((Path(__file__).parents[1] / "model_core" / "models" / "ddamfn_golden.json").read_text())
    c, h, w = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (3, 112, 112)), indexing="ij")
    with torch.inference_mode():
        logits = convert(state)(torch.sin(0.1 * (c + 1) * h + 0.07 * w)[None].float()).expression
    assert logits[0].tolist() == pytest.approx(golden["logits"], abs=1e-5)


def test_dead_entries_are_dropped(state: dict[str, Tensor]) -> None:
    assert len(convert(state).state_dict()) == 969


@pytest.mark.parametrize("name", ["bn.running_mean", "features.3.model.0.conv_dw.prelu.weight"])
def test_dead_entries_must_be_the_published_ones(state: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=f"missing {name}"):
        convert({key: value for key, value in state.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name} is "):
        convert({**state, name: torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match=r"unexpected bn\.made_up"):
        convert({**state, "bn.made_up": torch.zeros(8)})


def drop(state: dict[str, Any]) -> None:
    del state["features.3.model.8.CA.conv2.bias"]


def add(state: dict[str, Any]) -> None:
    state["cat_head2.CoordAtt.conv1.bias"] = torch.zeros(16)


def reshape(state: dict[str, Any]) -> None:
    state["fc.weight"] = torch.zeros(7, 512)


def replace(state: dict[str, Any]) -> None:
    state["fc.bias"] = "zeros"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "missing features.3.model.8.CA.conv2.bias"),
        (add, "unexpected cat_head2.CoordAtt.conv1.bias"),
        (reshape, "fc.weight is (7, 512), expected (8, 512)"),
        (replace, "fc.bias is str, expected (8,)"),
    ],
)
def test_a_difference_is_refused_by_name(
    state: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(state)
    with pytest.raises(CheckpointError) as caught:
        convert(state)
    assert str(caught.value) == f"not a DDAMFN AffectNet-8 checkpoint: {message}"


def test_many_differences_make_a_short_message() -> None:
    with pytest.raises(CheckpointError, match=r"missing .* and 1186 more$"):
        convert({"a": torch.zeros(1)})


def test_a_checkpoint_becomes_a_bundle_that_predicts(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "affecnet8.pth"
    torch.save({"iter": 1, "model_state_dict": state, "optimizer_state_dict": {}}, source)
    command(monkeypatch, source, "--out", tmp_path / "bundle")
    assert "uncalibrated" in capsys.readouterr().out
    bundle = load_bundle(tmp_path / "bundle")
    manifest = bundle.manifest
    assert manifest.input.alignment == "ddamfn-frontal-1"
    assert manifest.input.mean == (0.485, 0.456, 0.406)
    assert manifest.training["source"] == "affecnet8.pth"
    (affect,) = Predictor([bundle], torch.device("cpu")).predict([[np.zeros((112, 112, 3), np.uint8)]])
    assert tuple(affect.expression.probabilities) == LABEL_SETS["affectnet8"]
    assert (affect.valence, affect.action_units) == (None, None)


def test_a_hostile_pickle_is_refused_without_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, source = tmp_path / "it-ran", tmp_path / "hostile.pth"
    torch.save({"model_state_dict": Hostile(trace)}, source)
    with pytest.raises(
        SystemExit, match=r"error: .*hostile\.pth is not a checkpoint of plain tensors.*it calls posix\.system"
    ):
        command(monkeypatch, source, "--out", tmp_path / "bundle")
    assert not trace.exists()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, {"model_state_dict": 3}])
def test_a_file_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(SystemExit, match=r"error: .*other\.pth has no model_state_dict"):
        command(monkeypatch, tmp_path / "other.pth", "--out", tmp_path / "bundle")


def test_a_pickled_backbone_becomes_a_trunk_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, state = tmp_path / "MFN_msceleb.pth", mfn_state()
    with upstream_package() as part:
        torch.save(nest(part, state), source)
    command(monkeypatch, source, "--out", tmp_path / "mfn")
    assert "trunk.pt: an MFN trunk without heads" in capsys.readouterr().out
    network = build_network(SPEC)
    before = network.state_dict()["heads.expression.weight"].clone()
    start_from(network, SPEC, tmp_path / "mfn" / "trunk.pt")
    after = network.state_dict()
    trunk = [name for name in after if name.startswith("backbone.features.")]
    assert len(trunk) > 800
    assert all(torch.equal(after[f], state[f.replace("backbone.features.", "part")]) for f in trunk)
    assert torch.equal(after["heads.expression.weight"], before)
    with pytest.raises(SystemExit, match="mfn exists; choose another folder"):
        command(monkeypatch, source, "--out", tmp_path / "mfn")


def test_another_pickled_module_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "other.pth")
    with pytest.raises(SystemExit, match=r"error: .*not an MFN backbone: missing features\.0\.bn\.bias; .* more$"):
        command(monkeypatch, tmp_path / "other.pth", "--out", tmp_path / "mfn")
    assert not (tmp_path / "mfn").exists()


def test_a_trunk_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_trunk({"0.conv.weight": torch.zeros(1)}, "made up", tmp_path / "trunk.pt")
    with pytest.raises(CheckpointError, match=r"trunk\.pt does not fit the trunk of a ddamfn"):
        start_from(build_network(SPEC), SPEC, tmp_path / "trunk.pt")


def test_a_wrong_detector_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: unknown face detector 'eagle'"):
        command(monkeypatch, tmp_path / "any.pth", "--out", tmp_path / "bundle", "--detector", "eagle")
