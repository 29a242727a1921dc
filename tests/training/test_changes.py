import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import load_bundle
from model_core.calibration import Calibration
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from tests.training.sittings import write_sittings
from training import calibrate, changes, evaluate, export
from training.changes import Pairs, fit_head, fit_slopes, measures
from training.runs.checkpoint import load_trained
from training.runs.trained import load_evaluable, read_calibration, write_calibration


def drawn(count: int, seed: int) -> Pairs:
    """Unit i adds twice its intensity to number i of a vector; the last number is noise, and so is a tenth of each."""
    rng = np.random.default_rng(seed)
    intensities = rng.choice([0.0, 0.1, 0.4, 0.8], (count, 12))
    differences = np.column_stack([2 * intensities + rng.normal(0, 0.2, (count, 12)), rng.normal(0, 5, count)])
    return Pairs(differences, intensities, intensities - 0.05)


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People who move all units together: 30 of them for training."""
    folder = tmp_path_factory.mktemp("changes") / "rendered"
    return write_sittings(folder, ["train"] * 30 + ["validation"] * 3 + ["test"] * 2, moved=ACTION_UNITS)


@pytest.fixture
def run(finished: FinishedRun, tmp_path: Path) -> Path:
    """The finished run with a calibration, to which a head may be added."""
    shutil.copytree(finished.folder, tmp_path / "run")
    write_calibration(tmp_path / "run", Calibration())
    return tmp_path / "run"


def command(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_faint_movements_count_for_neither() -> None:
    pairs = replace(drawn(1, 0), intensities=np.array([[0.0, 0.05, 0.1, np.float32(0.2), 1.0, *[0.3] * 7]]))
    assert pairs.moved.tolist() == [[False, False, False, True, True, *[True] * 7]]
    assert pairs.told.tolist() == [[True, True, False, True, True, *[True] * 7]]


def test_a_head_finds_what_tells_each_unit() -> None:
    head = fit_head(drawn(600, 0))
    assert head.bias.tolist() == [0.0] * 12
    own, others = np.diag(head.weight), head.weight[:, :12] - np.diag(np.diag(head.weight))
    assert own.min() > 5 * np.abs(others).max()
    assert own.min() > 50 * np.abs(head.weight[:, 12]).max()
    other = drawn(400, 1)
    outputs = head(other.differences)
    told = measures(other, outputs, fit_slopes(outputs, other.changes))
    assert told["auroc"] > 0.98
    assert told["r"] > 0.9


def test_slopes_make_intensities() -> None:
    changes_of_intensity = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 12))
    wanted = np.geomspace(0.01, 100, 12)
    slopes = fit_slopes(np.arctanh(changes_of_intensity) / wanted, changes_of_intensity)
    assert tuple(slopes) == tuple(ACTION_UNITS)
    assert list(slopes.values()) == pytest.approx(wanted.tolist(), rel=1e-3)


def test_slopes_of_outputs_that_lie_far_apart() -> None:
    """A start with slopes of 1 would put every tanh at its end."""
    rng = np.random.default_rng(1)
    moved = rng.random((200, 12)) < 0.2
    slopes = fit_slopes(np.where(moved, 30.0, 0.0) + rng.normal(0, 8, (200, 12)), np.where(moved, 0.6, 0.0))
    # tanh(30 / 43) is 0.6, and noise draws them lower.
    assert all(1 / 80 < slope < 1 / 43 for slope in slopes.values())


def test_a_unit_that_hardly_moves_is_named() -> None:
    pairs = drawn(300, 0)
    pairs.intensities[19:, 3] = 0.0
    with pytest.raises(Exception, match="fewer than 20 training faces move AU6"):
        fit_head(pairs)


def test_a_run_learns_to_tell_changes(
    run: Path, sittings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_trained(run / "best.pt")
    command(monkeypatch, changes, "--run", run, "--prepared", sittings)
    # Three validation people with three pictures each beside the one at rest.
    assert capsys.readouterr().out.startswith("9 validation faces beside the same person at rest")
    after = load_trained(run / "best.pt")
    assert after.spec.tasks == (*before.spec.tasks, "unit_changes")
    assert all(torch.equal(after.weights[name], value) for name, value in before.weights.items())
    assert not after.weights["heads.unit_changes.bias"].any()
    fitted = read_calibration(run)
    assert tuple(fitted.unit_changes) == tuple(ACTION_UNITS)
    assert tuple(fitted.change_limits.by_name) == ("valence", "arousal", *ACTION_UNITS)

    report = tmp_path / "report.json"
    command(monkeypatch, evaluate, "--model", run, "--prepared", sittings, "--out", report, "--resamples", 0)
    told = json.loads(report.read_text())["rendered"]["units"]["AU12"]
    assert told["auroc_change"] == 1.0  # brighter crops than at rest, whatever the network has learned
    assert told["pearson_change"] > 0.8

    command(monkeypatch, calibrate, "--run", run, "--prepared", sittings, "--rest", sittings)
    again = read_calibration(run)
    assert again.unit_changes == fitted.unit_changes
    assert again.change_limits == fitted.change_limits

    rest = ["--name", "n", "--version", "1", "--licence", "MIT", "--data-terms", "t"]
    command(monkeypatch, export, "--run", run, "--out", tmp_path / "b", *rest)
    manifest = load_bundle(tmp_path / "b").manifest
    assert manifest.calibration == again
    assert manifest.references["unit_changes"] == "rendered"
    assert manifest.training["unit_changes"]["datasets"] == ["rendered"]
    assert str(sittings) not in (tmp_path / "b" / "bundle.json").read_text()


def test_other_heads_stay(run: Path, sittings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, changes, "--run", run, "--prepared", sittings)
    first = load_trained(run / "best.pt")
    command(monkeypatch, changes, "--run", run, "--prepared", sittings)
    again = load_trained(run / "best.pt")
    assert again.spec == first.spec == load_evaluable(run).spec
    torch.testing.assert_close(again.weights["heads.unit_changes.weight"], first.weights["heads.unit_changes.weight"])


def test_what_cannot_be_taught_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = write_prepared(tmp_path / "photographs")
    with pytest.raises(SystemExit, match="does not hold sittings of rendered faces"):
        command(monkeypatch, changes, "--run", run, "--prepared", photographs)
    few = write_sittings(tmp_path / "few", ["train"] * 3 + ["validation"])
    with pytest.raises(SystemExit, match="fewer than 20 training faces move AU1, AU2"):
        command(monkeypatch, changes, "--run", run, "--prepared", few)
    nobody = write_sittings(tmp_path / "nobody", ["validation"])
    with pytest.raises(SystemExit, match="no train face stands beside the same person at rest"):
        command(monkeypatch, changes, "--run", run, "--prepared", nobody)
    assert "unit_changes" not in load_trained(run / "best.pt").spec.tasks
