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
from model_core.calibration import Calibration, ChangeLimits
from model_core.models.spec import EstimatorSpec
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from tests.training.sittings import write_sittings
from training import calibrate, changes, evaluate, export
from training.changes import Pairs, add_changes, fit_changes, measures
from training.runs import added_heads
from training.runs.added_heads import save_extended
from training.runs.checkpoint import load_trained, save_trained
from training.runs.trained import load_evaluable, read_calibration, write_calibration

TELLING = 5
"""Numbers of a vector that tell each unit."""


def drawn(count: int, seed: int) -> Pairs:
    """Each unit adds twice its intensity to its numbers, which have noise of 0.2; the last number is noise alone."""
    rng = np.random.default_rng(seed)
    intensities = rng.choice([0.0, 0.1, 0.4, 0.8], (count, 12))
    told = np.repeat(2 * intensities, TELLING, axis=1)
    differences = np.column_stack([told + rng.normal(0, 0.2, told.shape), rng.normal(0, 5, count)])
    return Pairs(differences, intensities, intensities - 0.05)


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People who move all units together: 30 of them for training."""
    folder = tmp_path_factory.mktemp("changes") / "rendered"
    return write_sittings(folder, ["train"] * 30 + ["validation"] * 3 + ["test"] * 2, moved=ACTION_UNITS)


def calibrated(finished: FinishedRun, folder: Path) -> Path:
    """A copy of the finished run with a calibration, to which a head may be added."""
    shutil.copytree(finished.folder, folder)
    write_calibration(folder, Calibration())
    return folder


@pytest.fixture(scope="module")
def taught(finished: FinishedRun, sittings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that has learned to tell changes."""
    run = calibrated(finished, tmp_path_factory.mktemp("taught") / "run")
    add_changes(run, [sittings])
    return run


@pytest.fixture
def run(taught: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(taught, tmp_path / "run"))


def command(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_faint_movements_count_for_neither() -> None:
    pairs = replace(drawn(1, 0), intensities=np.array([[0.0, 0.05, 0.1, np.float32(0.2), 1.0, *[0.3] * 7]]))
    assert pairs.moved.tolist() == [[False, False, False, True, True, *[True] * 7]]
    assert pairs.told.tolist() == [[True, True, False, True, True, *[True] * 7]]


def test_what_is_fitted_finds_what_tells_each_unit() -> None:
    fitted = fit_changes(drawn(2500, 0))
    width = 12 * TELLING + 1
    still = fitted(np.zeros((1, width)))
    assert still.rises.tolist() == still.values.tolist() == [[0.0] * 12]
    # One unit's numbers at a time: it rises most itself. The last number, which is noise, hardly moves any.
    steps = fitted(
        np.vstack([np.repeat(np.eye(12), TELLING, axis=1) @ np.eye(12 * TELLING, width), 5 * np.eye(width)[-1]])
    )
    assert steps.rises[:12].argmax(axis=0).tolist() == list(range(12))
    assert np.abs(steps.rises[12]).max() < 0.25 * np.diag(steps.rises[:12]).min()
    other = drawn(400, 1)
    told = measures(other, fitted(other.differences))
    assert told["auroc"] > 0.98
    assert told["r"] > 0.9


def test_the_head_has_no_more_outputs_than_needed() -> None:
    fitted = fit_changes(drawn(300, 0))
    assert fitted.head.weight.shape == (32, 12 * TELLING + 1)
    assert fitted.head.bias.tolist() == [0.0] * 32
    assert fitted.head(drawn(300, 0).differences).std(axis=0) == pytest.approx(np.ones(32), rel=1e-3)


def test_the_same_seed_fits_the_same() -> None:
    first, again, other = (fit_changes(drawn(260, 0), seed) for seed in (1, 1, 2))
    assert np.array_equal(first.estimator.first, again.estimator.first)
    assert not np.array_equal(first.estimator.last, other.estimator.last)


def test_a_unit_that_hardly_moves_is_named() -> None:
    pairs = drawn(300, 0)
    pairs.intensities[19:, 3] = 0.0
    with pytest.raises(Exception, match="fewer than 20 training faces move AU6"):
        fit_changes(pairs)


def test_a_run_learns_to_tell_changes(
    run: Path, finished: FinishedRun, sittings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (load_trained(folder / "best.pt") for folder in (finished.folder, run))
    assert after.spec == replace(
        before.spec, tasks=(*before.spec.tasks, "unit_changes"), estimator=EstimatorSpec(32, 256)
    )
    assert all(torch.equal(after.weights[name], value) for name, value in before.weights.items())
    assert not after.weights["heads.unit_changes.bias"].any()
    fitted = read_calibration(run)
    assert tuple(fitted.change_limits.by_name) == ("valence", "arousal", *ACTION_UNITS)

    report = tmp_path / "report.json"
    command(monkeypatch, evaluate, "--model", run, "--prepared", sittings, "--out", report, "--resamples", 0)
    told = json.loads(report.read_text())["rendered"]["units"]["AU12"]
    assert told["auroc_change"] == 1.0  # brighter crops than at rest, whatever the network has learned
    assert told["pearson_change"] > 0.8

    command(monkeypatch, calibrate, "--run", run, "--prepared", sittings, "--rest", sittings)
    again = read_calibration(run)
    assert again.change_limits == fitted.change_limits

    command(monkeypatch, calibrate, "--run", run, "--prepared", sittings)
    assert read_calibration(run).change_limits == replace(fitted.change_limits, valence_arousal=None)
    command(monkeypatch, calibrate, "--run", run, "--prepared", sittings, "--rest", sittings)

    rest = ["--name", "n", "--version", "1", "--licence", "MIT", "--data-terms", "t"]
    command(monkeypatch, export, "--run", run, "--out", tmp_path / "b", *rest)
    manifest = load_bundle(tmp_path / "b").manifest
    assert manifest.calibration == again
    assert manifest.references["unit_changes"] == "rendered"
    assert manifest.training["unit_changes"]["datasets"] == ["rendered"]
    assert str(sittings) not in (tmp_path / "b" / "bundle.json").read_text()


def test_a_kill_amid_saving_leaves_no_limits_of_an_earlier_head(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, before = load_trained(run / "best.pt"), read_calibration(run)

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(added_heads, "save_trained", killed)
    with pytest.raises(Killed):
        save_extended(run, trained, change_limits=before.change_limits)
    assert read_calibration(run) == replace(before, change_limits=ChangeLimits())


def test_an_earlier_head_is_replaced_and_what_was_read_is_told(
    run: Path, sittings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_trained(run / "best.pt")
    spoilt = {
        name: weight + name.startswith(("heads.unit_changes", "estimator")) for name, weight in first.weights.items()
    }
    save_trained(replace(first, weights=spoilt), run / "best.pt")
    command(monkeypatch, changes, "--run", run, "--prepared", sittings)
    # Three validation people with three pictures each beside the one at rest.
    assert capsys.readouterr().out.startswith("9 validation faces beside the same person at rest")
    again = load_trained(run / "best.pt")
    assert again.spec == first.spec == load_evaluable(run).spec
    torch.testing.assert_close(again.weights, first.weights)


def test_an_earlier_estimator_may_be_kept(
    taught: Path, finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = calibrated(finished, tmp_path / "run")
    few = write_sittings(tmp_path / "few", ["train"] * 3 + ["validation"] * 3)
    command(monkeypatch, changes, "--run", run, "--prepared", few, "--estimator-of", taught)
    kept, source = (load_trained(folder / "best.pt") for folder in (run, taught))
    assert kept.spec == source.spec
    torch.testing.assert_close(kept.weights, source.weights, rtol=0, atol=0)
    assert read_calibration(run).change_limits is not None
    assert export._added(kept.training["unit_changes"])["fitted_to"] == "the network that training went on from"
    with pytest.raises(SystemExit, match="does not tell changes by vectors of this size"):
        command(monkeypatch, changes, "--run", run, "--prepared", few, "--estimator-of", finished.folder)


def test_what_cannot_be_taught_is_refused(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = calibrated(finished, tmp_path / "run")
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
