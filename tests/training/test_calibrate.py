import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import UNCALIBRATED_UNIT, Calibration, ChangeLimits
from model_core.metrics import binary_f1, ccc, pearson
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from tests.training.measuring.pictures import picture, write_rendered
from tests.training.sittings import write_sittings
from training import calibrate
from training.calibrate import fit
from training.data.prepared import load_prepared
from training.measuring.fitting import GRID, MIN_POSITIVES, fit_axis, fit_expression, fit_unit
from training.measuring.resting import LevelReader, read_sittings, rises_at_rest
from training.measuring.scoring import Outputs, collect
from training.runs.trained import load_evaluable, read_calibration


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def simulated(temperature: float, bias: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits, and labels drawn from softmax(logits / temperature + bias)."""
    rng = np.random.default_rng(7)
    z = rng.normal(0, 2, (6000, 4))
    p = softmax(z + bias)
    labels = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    return z * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    fitted = fit_expression(*simulated(temperature, np.zeros(4)))
    assert fitted.temperature == pytest.approx(temperature, rel=0.06)
    assert fitted.bias == pytest.approx([0] * 4, abs=0.1)
    assert sum(fitted.bias) == pytest.approx(0)


def test_a_known_bias_is_recovered() -> None:
    bias = np.array([0.8, 0.0, -0.3, -0.5])
    fitted = fit_expression(*simulated(2.0, bias))
    assert fitted.temperature == pytest.approx(2.0, rel=0.08)
    assert fitted.bias == pytest.approx(bias, abs=0.15)


def simulated_unit(slope: float, intercept: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(8)
    z = rng.normal(0, 2, 6000)
    return z, rng.random(len(z)) < 1 / (1 + np.exp(-(slope * z + intercept)))


def test_the_papers_grid_on_the_calibrated_signal() -> None:
    logits, positive = simulated_unit(1.0, -1.0)
    searched, on_grid = fit_unit(logits, positive), fit_unit(logits, positive, "grid")
    assert on_grid.threshold in GRID
    assert searched.threshold not in GRID
    assert (on_grid.slope, on_grid.intercept) == (searched.slope, searched.intercept)
    f1 = {limit: binary_f1(on_grid.probability(logits) >= limit, positive) for limit in GRID}
    assert f1[on_grid.threshold] == max(f1.values())


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1.0), (1.8, 0.7)])
def test_known_platt_numbers_are_recovered(slope: float, intercept: float) -> None:
    fitted = fit_unit(*simulated_unit(slope, intercept))
    assert fitted.slope == pytest.approx(slope, rel=0.08)
    assert fitted.intercept == pytest.approx(intercept, abs=0.12)


def test_the_threshold_is_searched_on_the_calibrated_signal() -> None:
    # A rare unit: its best F1 lies well below a probability of one half.
    z, positive = simulated_unit(0.8, -2.5)
    fitted = fit_unit(z, positive)
    probability = fitted.probability(z)
    assert 0.1 < fitted.threshold < 0.45
    assert binary_f1(probability >= fitted.threshold, positive) > binary_f1(probability >= 0.5, positive) + 0.02
    every = [binary_f1(probability >= t, positive) for t in np.linspace(0, 1, 101)]
    assert binary_f1(probability >= fitted.threshold, positive) >= max(every)


@pytest.mark.parametrize("count", [0, 1, MIN_POSITIVES - 1])
@pytest.mark.parametrize("rare", [True, False])
def test_too_few_of_a_kind_leave_a_unit_untouched(count: int, rare: bool) -> None:
    z = np.linspace(-3, 3, 200)
    assert fit_unit(z, (np.arange(200) < count) == rare) == UNCALIBRATED_UNIT
    assert UNCALIBRATED_UNIT.threshold == 0.5


def test_enough_of_both_kinds_are_fitted_even_when_separable() -> None:
    z = np.linspace(-3, 3, 2 * MIN_POSITIVES)
    fitted = fit_unit(z, z > 0)
    assert 1 < fitted.slope < 100
    assert binary_f1(fitted.probability(z) >= fitted.threshold, z > 0) == 1


def test_an_axis_gets_the_spread_of_its_reference() -> None:
    rng = np.random.default_rng(5)
    reference = rng.normal(0.1, 0.3, 5000).clip(-1, 1)
    timid = 0.5 * (reference + rng.normal(0, 0.1, 5000)) - 0.2
    fitted = fit_axis(timid, reference)
    assert fitted is not None
    again = fitted.estimate(timid)
    assert (again.mean(), again.std()) == pytest.approx((reference.mean(), reference.std()), abs=0.005)
    # Mean and spread agree, so concordance is the correlation, the most that an affine map can reach.
    assert ccc(again, reference) == pytest.approx(pearson(timid, reference), abs=0.005)
    assert ccc(again, reference) > ccc(timid, reference) + 0.1
    assert (np.abs(again - reference) <= fitted.half_width).mean() == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize(("estimates", "reference"), [(np.zeros(9), np.arange(9.0)), (np.arange(9.0), np.zeros(9))])
def test_an_axis_without_spread_is_not_fitted(estimates: NDArray[np.float64], reference: NDArray[np.float64]) -> None:
    assert fit_axis(estimates, reference) is None


def test_only_labelled_and_derived_records_are_fitted_on(finished: FinishedRun) -> None:
    faces = load_prepared(finished.prepared)
    rows = np.arange(len(faces))[faces.found]
    rng = np.random.default_rng(2)
    outputs = Outputs(rows, None, rng.normal(size=(len(rows), 8)), rng.normal(size=(len(rows), 12)))
    calibration = fit(faces, outputs)
    # Records that may not count get wild outputs: nothing may change.
    votes, derived = faces.votes.copy(), faces.derived.copy()
    votes[rows[0]], derived[rows[1]] = 1, False
    fewer = replace(faces, votes=votes, derived=derived)
    expected = fit(fewer, outputs)
    outputs.expression[0], outputs.action_units[1] = 1e3 * rng.normal(size=8), 1e3
    assert fit(fewer, outputs) == expected
    assert expected.expression != calibration.expression


def test_a_slight_unit_of_a_rendered_face_is_fitted_as_present(tmp_path: Path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "prepared"))
    faces.action_units[:] = np.where(np.arange(48) % 2, 0.25, 0)[:, None]
    logits = np.random.default_rng(4).normal(size=(48, 12)) + 3 * (faces.action_units > 0)
    outputs = Outputs(np.arange(48), None, None, logits)
    derived = fit(faces, outputs).action_units
    assert derived is not None
    assert derived["AU12"] == UNCALIBRATED_UNIT  # no teacher's score reaches 0.3
    rendered = fit(replace(faces, info=replace(faces.info, rendered=True)), outputs).action_units
    assert rendered is not None
    assert rendered["AU12"] == fit_unit(logits[:, 6], np.arange(48) % 2 == 1)
    assert rendered["AU12"].slope > 1


def test_annotated_valence_arousal_is_fitted_where_it_is_annotated(tmp_path: Path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "annotated", annotated=True))
    faces.valence_arousal[:] = np.linspace(-0.5, 0.5, len(faces))[:, None]
    estimates = 2 * faces.valence_arousal.astype(np.float64) + 0.25
    estimates[~faces.annotated] = 100
    fitted = fit(faces, Outputs(np.arange(len(faces)), estimates, None, None)).valence_arousal
    assert (fitted["valence"].slope, fitted["valence"].intercept) == pytest.approx((1 / 2, -1 / 8))


def test_tasks_that_are_absent_are_not_fitted(finished: FinishedRun) -> None:
    faces = load_prepared(finished.prepared)
    outputs = Outputs(np.arange(3), np.zeros((3, 2)), None, None)
    assert fit(faces, outputs) == Calibration()


def test_the_command_writes_beside_the_weights(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished.folder / "best.pt", tmp_path)
    assert read_calibration(tmp_path) == Calibration()
    arguments = ["--run", str(tmp_path), "--prepared", str(finished.prepared)]
    monkeypatch.setattr(sys, "argv", ["training.calibrate", *arguments])
    calibrate.main()
    calibration = read_calibration(tmp_path)
    assert len(calibration.expression.bias) == 8
    # Seven faces cannot support a fit of any unit.
    assert set(calibration.action_units.values()) == {UNCALIBRATED_UNIT}
    assert "8 validation faces" in capsys.readouterr().out


def test_limits_of_changes_are_fitted_on_faces_at_rest(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished.folder / "best.pt", tmp_path)
    rest = write_sittings(tmp_path / "rendered", ["train", *["validation"] * 3])
    arguments = ["--run", tmp_path, "--prepared", finished.prepared, "--rest", rest]
    monkeypatch.setattr(sys, "argv", ["training.calibrate", *map(str, arguments)])
    calibrate.main()
    assert f"8 validation faces, and limits of changes on {rest}" in capsys.readouterr().out
    calibration = read_calibration(tmp_path)
    evaluable = load_evaluable(tmp_path)
    faces = load_prepared(rest)
    told = LevelReader(evaluable.network, evaluable.input, replace(calibration, change_limits=ChangeLimits()))
    rises = rises_at_rest(told, faces, read_sittings(rest, faces), "validation").values
    assert len(rises) == 45
    limits = np.array(list(calibration.change_limits.by_name.values()))
    # Of 24 rises in other pictures rank 24 is exceeded by none, of 21 in changed ones neither is rank 21.
    assert limits == pytest.approx(np.maximum(rises.max(axis=0), 0))
    assert limits[:2].tolist() == [calibration.change_limits.by_name[axis] for axis in ("valence", "arousal")]


def test_too_few_faces_at_rest_are_told(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(finished.folder / "best.pt", tmp_path)
    rest = write_sittings(tmp_path / "rendered", ["validation"])
    arguments = ["--run", tmp_path, "--prepared", finished.prepared, "--rest", rest]
    monkeypatch.setattr(sys, "argv", ["training.calibrate", *map(str, arguments)])
    with pytest.raises(SystemExit, match="error: 8 faces at rest are too few"):
        calibrate.main()
    assert not (tmp_path / "calibration.json").exists()


def test_photographs_are_no_faces_at_rest(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--run", finished.folder, "--prepared", finished.prepared, "--rest", finished.prepared]
    monkeypatch.setattr(sys, "argv", ["training.calibrate", *map(str, arguments)])
    with pytest.raises(SystemExit, match=r"error: .*does not hold sittings of rendered faces"):
        calibrate.main()


def test_the_command_needs_a_run(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["training.calibrate", "--run", str(tmp_path), "--prepared", str(finished.prepared)]
    )
    with pytest.raises(SystemExit, match=r"error: .*best\.pt does not exist"):
        calibrate.main()


def test_several_sets_and_their_degraded_copies(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished.folder / "best.pt", tmp_path)
    shown = [picture(0, place, {"AU1": 0.6} if place else {}, split="validation") for place in range(4)]
    renders = write_rendered(tmp_path / "renders", shown)
    arguments = ["training.calibrate", "--run", str(tmp_path), "--prepared", str(finished.prepared), str(renders)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--degraded", "--weights", "2", "1"])
    calibrate.main()
    text = capsys.readouterr().out
    assert "prepared: 7 faces, ECE of expressions" in text
    assert "prepared, degraded: 7 faces" in text
    assert "renders: 4 faces" in text
    assert "of 1 neutral ones" in text
    assert "fitted on 12 validation faces" in text
    outputs = load_evaluable(tmp_path)
    logits = collect(outputs.network, load_prepared(renders), np.array([0]), outputs.input, torch.device("cpu"))
    # No unit is active in the face at rest.
    thresholds = [outputs.calibration.unit(name).threshold for name in ACTION_UNITS]
    assert (outputs.calibration.unit_probabilities(logits.action_units) < thresholds).all()


def test_weights_go_with_sets(
    finished: FinishedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["training.calibrate", "--run", "x", "--prepared", str(finished.prepared), "--weights"]
    for weights, message in ((["1", "2"], "--weights has a number for each"), (["0"], "0 is not a positive number")):
        monkeypatch.setattr(sys, "argv", [*arguments, *weights])
        with pytest.raises(SystemExit):
            calibrate.main()
        assert message in capsys.readouterr().err
