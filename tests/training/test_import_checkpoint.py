import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter, warn

import numpy as np
import pytest
import torch
from torch import Tensor

from model_core.affect import LABEL_SETS
from model_core.bundles.bundle import load_bundle
from model_core.inference.predictor import Predictor
from model_core.models.registry import build_network
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


def count(state: dict[str, Any]) -> None:
    state["fc.bias"] = torch.zeros(8, dtype=torch.int64)


def turn(state: dict[str, Any]) -> None:
    state["fc.bias"] = torch.zeros(8, dtype=torch.complex64)


def lose(state: dict[str, Any]) -> None:
    state["fc.bias"] = torch.tensor([float("nan")] * 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "missing features.3.model.8.CA.conv2.bias"),
        (add, "unexpected cat_head2.CoordAtt.conv1.bias"),
        (reshape, "fc.weight is (7, 512), expected (8, 512)"),
        (replace, "fc.bias is str, expected (8,)"),
        (count, "fc.bias is of int64, expected floating point numbers"),
        (turn, "fc.bias is of complex64, expected floating point numbers"),
        (lose, "fc.bias has values that are not finite"),
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
    (affect,) = Predictor([bundle]).predict([[np.zeros((112, 112, 3), np.uint8)]])
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page (HTML): download the file itself"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 16777216\n",
            "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
        ),
        (b"", "is empty: download it again"),
        (b'\x0b\0\0\0\0\0\0\0{"a": 1234}', "is a safetensors file: a torch file is expected here"),
    ],
)
def test_a_file_that_is_something_else_is_told(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, tmp_path / "weights.pth", "--out", tmp_path / "bundle")
    assert str(caught.value).startswith(f"error: {tmp_path / 'weights.pth'} {message}")
    assert not (tmp_path / "bundle").exists()


def test_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: .* is a folder: give the file in it"):
        command(monkeypatch, tmp_path, "--out", tmp_path / "bundle")


def test_the_wrapper_of_several_gpus_is_stripped_and_told(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "wrapped.pth"
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in state.items()}}, source)
    command(monkeypatch, source, "--out", tmp_path / "bundle")
    assert "its keys began with 'module.', which was stripped" in capsys.readouterr().out
    imported = load_bundle(tmp_path / "bundle").network.state_dict()["heads.expression.weight"]
    torch.testing.assert_close(imported, state["fc.weight"], rtol=1e-3, atol=1e-4)
    part = {f"module.{name}" if name.startswith("fc") else name: value for name, value in state.items()}
    with pytest.raises(CheckpointError, match=r"missing fc\.bias"):
        convert(import_checkpoint.without_wrapper(part))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_a_pickled_backbone_of_other_numbers_is_refused_by_name(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, state = tmp_path / "MFN_msceleb.pth", mfn_state()
    state["part0.bn.bias"] = state["part0.bn.bias"].to(dtype)
    with upstream_package() as part:
        torch.save(nest(part, state), source)
    message = rf"not an MFN backbone: features\.0\.bn\.bias is of {str(dtype).removeprefix('torch.')}, expected"
    with pytest.raises(SystemExit, match=message):
        command(monkeypatch, source, "--out", tmp_path / "mfn")


def test_a_wrapped_pickled_backbone_is_unwrapped_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "MFN_msceleb.pth"
    with upstream_package() as part:
        wrapper = part()
        wrapper.add_module("module", nest(part, mfn_state()))
        torch.save(wrapper, source)
    command(monkeypatch, source, "--out", tmp_path / "mfn")
    assert "its keys began with 'module.', which was stripped" in capsys.readouterr().out


def test_a_torchscript_archive_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with catch_warnings():
        simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "script.pth")
    with pytest.raises(SystemExit, match=r"error: .*script\.pth is a TorchScript archive"):
        command(monkeypatch, tmp_path / "script.pth", "--out", tmp_path / "bundle")


def test_no_librarys_warning_stands_above_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def commenting(path: Path) -> object:
        warn("the library has something to say", stacklevel=2)
        raise CheckpointError("damaged")

    monkeypatch.setattr(import_checkpoint, "load_plain", commenting)
    (tmp_path / "any.pth").write_bytes(b"no weights")
    with catch_warnings(record=True) as comments, pytest.raises(SystemExit, match="error: damaged"):
        command(monkeypatch, tmp_path / "any.pth", "--out", tmp_path / "bundle")
    assert comments == []
