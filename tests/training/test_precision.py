import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import Task
from model_core.bundles.bundle import load_bundle, save_bundle
from model_core.bundles.manifest import PrecisionGate
from model_core.inference import encoder
from model_core.inference.predictor import Predictor
from tests.tiny_bundles import TinyBackbone, tiny_bundle
from tests.training.conftest import FinishedRun
from training import precision
from training.export import Labelling, manifest_of
from training.precision import Readings, render
from training.runs.trained import load_evaluable

pytest.importorskip("openvino")


@pytest.fixture
def folder(finished: FinishedRun, tmp_path: Path) -> Path:
    trained = load_evaluable(finished.folder)
    save_bundle(tmp_path / "bundle", manifest_of(trained, Labelling("small", "1", "MIT", "none")), trained.network)
    return tmp_path / "bundle"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.precision", *map(str, arguments)])
    precision.main()


def test_the_differences_by_hand() -> None:
    reference = Readings(np.array([[0.0, 0.5], [0.0, 0.5], [1.0, 0.0], [1.0, 0.0]]), ("a", "a", "b", "b"))
    found = Readings(np.array([[0.0, 0.6], [0.0, 0.5], [1.0, 0.0], [1.3, 0.0]]), ("a", "b", "b", "b"))
    same, mean, tail, accuracy = precision._difference(found, reference, ["a", "a", "a", None])
    assert same == 0.75
    assert mean == pytest.approx(0.4 / 8)
    # The largest changes of the faces are 0, 0, 0.1 and 0.3; 0.999 of three steps lie 0.003 steps before the last one.
    assert tail == pytest.approx(0.3 - 0.003 * 0.2)
    assert accuracy == pytest.approx(2 / 3 - 1 / 3)  # of the three faces with a majority


def test_changes_count() -> None:
    """24 numbers of units and their changes, whatever is read together."""
    tasks: tuple[Task, ...] = ("valence_arousal", "action_units", "unit_changes")
    predictor = Predictor([tiny_bundle("all", *tasks, backbone=TinyBackbone())])
    ensemble = predictor.everything
    crops = [np.full((16, 16, 3), grey, np.uint8) for grey in (0, 90, 200)]
    outputs = precision._outputs(predictor, crops, 2)
    levels = ensemble.levels(outputs)
    read = precision._read(predictor, outputs, levels[1])
    told = [[change.value for change in ensemble.comparison.changes(levels[1], each).values()][2:] for each in levels]
    assert read.estimates.shape == (3, 2 + 12 + 12)
    assert read.estimates[:, 14:] == pytest.approx(np.array(told), abs=1e-12)
    assert told[1] == [0.0] * 12
    assert max(told[2]) > 0
    assert read.labels is None


def test_figures_are_measured_and_recorded_in_the_bundle(
    finished: FinishedRun, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)  # others compute in float32, or emulate it
    # Both precisions take one model, since it takes seconds to convert the network.
    monkeypatch.setattr(encoder, "_backbone_model", cache(encoder._backbone_model))
    before = load_bundle(folder).manifest
    with suppress(SystemExit):  # bfloat16 changes so small a network much, on a CPU that has it
        command(monkeypatch, "--bundle", folder, "--prepared", finished.prepared, "--threads", 1, "--record")
    manifest = load_bundle(folder).manifest
    gate = manifest.precision_gate
    assert gate is not None
    assert replace(manifest, precision_gate=None) == before
    assert (gate.measured_on, gate.faces) == ("ferplus validation+test", 14)
    assert render(gate) in capsys.readouterr().out


def test_a_gate_that_is_not_passed_ends_with_1_and_is_recorded_only_if_asked_for(
    finished: FinishedRun, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = PrecisionGate("bfloat16", "openvino", "1", "a set", 2, 0.5, 0.1, 0.9, 0.0)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "measure", lambda *_: failed)
    with pytest.raises(SystemExit, match="1"):
        command(monkeypatch, "--bundle", folder, "--prepared", finished.prepared)
    assert load_bundle(folder).manifest.precision_gate is None
    assert "the gate is not passed" in capsys.readouterr().out
    assert "the gate is passed" in render(replace(failed, same_label=0.995, mean_change=0.003, change_999=0.03))
    assert "same label" not in render(replace(failed, same_label=None, accuracy_change=None))


def test_a_cpu_that_emulates_bfloat16_is_refused(
    finished: FinishedRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    with pytest.raises(SystemExit, match="does not compute in bfloat16"):
        command(monkeypatch, "--bundle", folder, "--prepared", finished.prepared)
