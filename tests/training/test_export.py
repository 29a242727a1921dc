import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import load_bundle
from model_core.bundles.manifest import BundleManifest, UnitNote
from model_core.calibration import AXES, AxisCalibration, Calibration, ExpressionCalibration, UnitCalibration
from model_core.faces.alignment import shrink
from model_core.inference.predictor import Predictor
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training import export
from training.data.batches import image_batch
from training.data.prepared import load_prepared
from training.runs.checkpoint import load_trained
from training.runs.config import load_config
from training.runs.trained import Evaluable, load_evaluable, write_calibration
from training.train import build_run

CALIBRATION = Calibration(
    ExpressionCalibration(1.5, (0.25,) * 8),
    {name: UnitCalibration(2.0, 0.5, 0.25) for name in ACTION_UNITS},
    {name: AxisCalibration(1.5, 0.0, 0.5) for name in AXES},
)


@pytest.fixture
def folder(finished: FinishedRun, tmp_path: Path) -> Path:
    """The run's best weights with a calibration."""
    shutil.copy(finished.folder / "best.pt", tmp_path)
    write_calibration(tmp_path, CALIBRATION)
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, run: Path, out: Path, *more: object) -> None:
    fixed = ["--run", run, "--out", out, "--name", "small", "--version", "3", "--licence", "Apache-2.0"]
    arguments = [*fixed, "--data-terms", "Generated for tests.", *more]
    monkeypatch.setattr(sys, "argv", ["training.export", *map(str, arguments)])
    export.main()


def test_what_rendered_faces_taught_is_called_so(folder: Path) -> None:
    trained = load_evaluable(folder)
    prepared = {**trained.training["prepared"], "rendered": True}
    taught = replace(trained, training={**trained.training, "prepared": prepared})
    assert set(export._references(taught).values()) == {"rendered"}


def test_a_run_becomes_a_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = {"expression": {"accuracy": 0.5}}
    (folder / "quality.json").write_text(json.dumps(quality))
    command(monkeypatch, folder, folder / "bundle", "--quality", folder / "quality.json")
    bundle = load_bundle(folder / "bundle")
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("small", "3", "Apache-2.0")
    assert manifest.references == {
        "valence_arousal": "derived",
        "expression": "annotated",
        "action_units": "derived",
    }
    assert manifest.calibration == CALIBRATION
    assert manifest.quality == quality
    assert manifest.unit_notes is None
    assert manifest.detector == "yuface-2023.5.1"
    assert manifest.training["data_terms"] == "Generated for tests."
    assert set(manifest.training["validation"]) >= {"accuracy", "score"}


def test_reports_on_several_sets_are_kept_by_name_and_say_how_far_units_can_be_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = {name: {"pearson": 0.75, "auroc": 0.875} for name in ACTION_UNITS}
    read = {"faces": {"dataset": "ferplus", "with_derived_targets": 9}, "action_units": units}
    weak = {**units, "AU1": {"pearson": 0.5, "auroc": 0.75}}
    known = {"faces": {"dataset": "rendered", "with_known_action_units": 9}, "action_units": weak}
    paths = [folder / "ferplus.json", folder / "rendered.json"]
    for path, report in zip(paths, (read, known), strict=True):
        path.write_text(json.dumps(report))
    command(monkeypatch, folder, folder / "bundle", "--quality", *paths)
    manifest = load_bundle(folder / "bundle").manifest
    assert manifest.quality == {"ferplus": read, "rendered": known}
    assert manifest.unit_notes is not None
    assert manifest.unit_notes["AU1"] == UnitNote("teacher", 0.75, 0.875)
    assert manifest.unit_notes["AU2"] == UnitNote("rendered", 0.75, 0.875)
    with pytest.raises(
        SystemExit, match="error: several reports must be on different data sets, not on ferplus, ferplus"
    ):
        command(monkeypatch, folder, folder / "other", "--quality", paths[0], paths[0])


def manifest_of_sets(trained: Evaluable, sets: list[dict[str, Any]]) -> BundleManifest:
    return export.manifest_of(
        replace(trained, training={**trained.training, "sets": sets}), export.Labelling("n", "1", "MIT", "")
    )


def test_units_that_other_sets_taught_say_so(folder: Path) -> None:
    trained = load_evaluable(folder)
    prepared = trained.training["prepared"]
    every = ["valence_arousal", "expression", "action_units"]
    alike = {"share": 1.0, "neutral_at_rest": False, "resting_factor": 1.0, "balance": 0.0, "taught": False}
    rendered = {**prepared, "dataset": "rendered", "rendered": True}
    sets = [
        alike | {"prepared": prepared, "tasks": every, "trusted_units": ["AU1", "AU2"]},
        alike | {"prepared": rendered, "tasks": every[1:], "trusted_units": list(ACTION_UNITS)},
    ]
    mixed = replace(trained, training={**trained.training, "sets": sets})
    notes = export.manifest_of(mixed, export.Labelling("n", "1", "MIT", "")).unit_notes
    assert notes is not None
    assert [name for name, note in notes.items() if note.reference == "derived"] == ["AU1", "AU2"]
    assert {note.reference for note in notes.values()} == {"derived", "rendered"}
    larger = replace(trained, training={**trained.training, "sets": [sets[0], {**sets[1], "share": 2.0}]})
    manifest = export.manifest_of(larger, export.Labelling("n", "1", "MIT", ""))
    assert manifest.references == {"valence_arousal": "derived", "expression": "rendered", "action_units": "rendered"}
    assert manifest.unit_notes is None
    assert export.manifest_of(mixed, export.Labelling("n", "1", "MIT", "")).references["expression"] == "annotated"
    described = manifest_of_sets(trained, sets).training["sets"]
    assert [each["taught"] for each in described] == [False, False]
    older = [{name: value for name, value in each.items() if name != "taught"} for each in sets]
    assert not any("taught" in each for each in manifest_of_sets(trained, older).training["sets"])
    single = replace(trained, training={**trained.training, "sets": sets[:1]})
    assert export.manifest_of(single, export.Labelling("n", "1", "MIT", "")).unit_notes is None


def test_no_path_of_the_training_machine_is_published(
    folder: Path, finished: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(monkeypatch, folder, folder / "bundle")
    assert str(finished.prepared) not in (folder / "bundle" / "bundle.json").read_text()


def test_outputs_are_the_runs_with_its_weights_rounded_to_float16(
    folder: Path, finished: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(monkeypatch, folder, folder / "bundle")
    trained, bundle = load_evaluable(folder), load_bundle(folder / "bundle")
    for parameter in trained.network.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    faces = load_prepared(finished.prepared)
    images = image_batch([shrink(crop, trained.input.size) for crop in faces.crops[:8]], trained.input)
    with torch.inference_mode():
        before, after = trained.network(images), bundle.network(images)
    for task in trained.spec.tasks:
        assert torch.equal(getattr(after, task), getattr(before, task)), task
    (affect,) = Predictor([bundle]).predict([[np.zeros((16, 16, 3), np.uint8)]])
    assert affect.expression is not None
    again = load_evaluable(folder / "bundle")
    assert (again.spec, again.input, again.calibration) == (trained.spec, trained.input, trained.calibration)


def test_annotated_sets_say_so(folder: Path) -> None:
    trained = load_evaluable(folder)
    prepared = {**trained.training["prepared"], "derived": False}
    annotated = type(trained)(**{**vars(trained), "training": {**trained.training, "prepared": prepared}})
    manifest = export.manifest_of(annotated, export.Labelling("n", "1", "MIT", ""))
    assert set(manifest.references.values()) == {"annotated"}
    prepared = {**trained.training["prepared"], "annotated": True}
    mixed = type(trained)(**{**vars(trained), "training": {**trained.training, "prepared": prepared}})
    manifest = export.manifest_of(mixed, export.Labelling("n", "1", "MIT", ""))
    assert manifest.references["valence_arousal"] == "annotated"
    assert manifest.references["action_units"] == "derived"


def test_a_run_on_annotated_valence_arousal_says_so_in_its_bundle(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=8, validation=4, test=0, annotated=True)
    tasks = 'network.tasks=["valence_arousal", "expression"]'
    overrides = [f"data.prepared={prepared}", tasks, "optimizer.epochs=1"]
    run = build_run(load_config(finished.config, overrides), tmp_path / "run", torch.device("cpu"))
    run.run()
    assert {"accuracy", "ccc_v"} <= set(run.progress.history[0])
    command(monkeypatch, tmp_path / "run", tmp_path / "bundle", "--uncalibrated")
    references = load_bundle(tmp_path / "bundle").manifest.references
    assert references == {"valence_arousal": "annotated", "expression": "annotated"}


def test_mistakes_end_the_command_with_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: .*exists; choose another folder"):
        command(monkeypatch, folder, folder)
    with pytest.raises(SystemExit, match=r"error: .*best\.pt does not exist"):
        command(monkeypatch, folder / "nowhere", folder / "bundle")
    (folder / "calibration.json").write_text('{"expression": 1}')
    with pytest.raises(SystemExit, match=r"error: .*is not a calibration .*run training\.calibrate again"):
        command(monkeypatch, folder, folder / "bundle")
    assert not (folder / "bundle").exists()


def test_the_best_weights_are_the_runs(folder: Path) -> None:
    state = load_evaluable(folder).network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load_trained(folder / "best.pt").weights.items())


def test_an_uncalibrated_run_is_exported_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, folder, folder / "calibrated")
    assert "warning" not in capsys.readouterr().out
    (folder / "calibration.json").unlink()
    with pytest.raises(
        SystemExit, match=r"has no calibration: run training.calibrate first, or export it as it is"
    ) as no:
        command(monkeypatch, folder, folder / "bundle")
    assert "\n" not in str(no.value)
    assert not (folder / "bundle").exists()
    command(monkeypatch, folder, folder / "bundle", "--uncalibrated")
    assert load_bundle(folder / "bundle").manifest.calibration == Calibration()
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert line.endswith("served as the network gives it: valence_arousal, expression, action_units")


def test_a_task_that_could_not_be_calibrated_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_calibration(folder, Calibration(CALIBRATION.expression, CALIBRATION.action_units))
    command(monkeypatch, folder, folder / "bundle")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "warning: not calibrated, and served as the network gives it: valence_arousal"
