import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_core.bundles.bundle import load_bundle
from model_core.calibration import UNCALIBRATED_UNIT, Calibration, UnitCalibration
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from tests.training.sittings import write_sittings
from training import calibrate, evaluate, export, eyes
from training.data.prepared import load_prepared
from training.datasets.rendered import MANIFEST, as_json, from_json
from training.eyes import SeenFaces, fit_calibration, fit_head
from training.measuring.closed_eyes import eyes_in, measure_closed_eyes, measures
from training.measuring.scoring import Outputs
from training.runs.added_heads import Head
from training.runs.checkpoint import load_trained, save_trained
from training.runs.trained import load_evaluable, read_calibration, write_calibration
from training.targets.teacher import BLENDSHAPES

LEFT, RIGHT = (BLENDSHAPES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight"))


def blink(prepared: Path, left: NDArray[np.floating], right: NDArray[np.floating]) -> Path:
    """Write what the teacher reads of each record's eyes."""
    with np.load(prepared / "faces.npz") as stored:
        arrays = dict(stored)
    arrays["blendshapes"][:, LEFT], arrays["blendshapes"][:, RIGHT] = left, right
    np.savez(prepared / "faces.npz", **arrays)
    return prepared


@pytest.fixture(scope="module")
def winking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set in which faces with a bright upper half, every second one, have closed eyes."""
    prepared = write_prepared(tmp_path_factory.mktemp("eyes") / "prepared", train=60, validation=60, test=20)
    closed = np.where(np.arange(140) % 2 == 0, 0.5, 0.3)
    return blink(prepared, closed, np.full(140, 0.75) * (closed == 0.5))


@pytest.fixture
def run(finished: FinishedRun, tmp_path: Path) -> Path:
    """The finished run with a calibration, to which a head may be added."""
    shutil.copytree(finished.folder, tmp_path / "run")
    write_calibration(tmp_path / "run", Calibration())
    return tmp_path / "run"


@pytest.fixture(scope="module")
def taught(finished: FinishedRun, winking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that has learned to tell closed eyes; tests copy it."""
    run = tmp_path_factory.mktemp("taught") / "run"
    shutil.copytree(finished.folder, run)
    write_calibration(run, Calibration())
    eyes.add_eyes(run, [winking])
    return run


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.eyes", *map(str, arguments)])
    eyes.main()


def test_rendered_eyes_between_open_and_closed_are_left_out(tmp_path: Path) -> None:
    prepared = write_sittings(tmp_path / "prepared", ["train", "test"])
    pictures = [from_json(line) for line in (prepared / MANIFEST).read_text().splitlines()]
    shut = (0.0, 0.05, 0.06, 0.69, 0.7, 1.0, 0.0, 0.0)
    blinking = [replace(each, eyes_closed=share) for each, share in zip(pictures, shut, strict=True)]
    (prepared / MANIFEST).write_text("".join(map(as_json, blinking)))
    found = eyes_in(prepared, load_prepared(prepared))
    assert found is not None
    assert found.closed.tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert found.open.tolist() == [True] * 2 + [False] * 4 + [True] * 2
    assert found.people is not None
    assert found.people.tolist() == ["ict-0000"] * 4 + ["ict-0001"] * 4


def test_the_teacher_must_read_both_eyes_as_closed(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=4, validation=1, test=1, missing=[3])
    blink(prepared, np.array([0.5, 0.9, 0.31, 0.9, 0.3, 0.49]), np.array([0.6, 0.2, 0.8, 0.9, 0.9, 0.9]))
    found = eyes_in(prepared, load_prepared(prepared))
    assert found is not None
    assert found.closed.tolist() == [True, False, False, False, False, False]
    assert found.open.tolist() == [False, True, False, False, True, False]


def test_a_set_without_a_teacher_does_not_tell(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", annotated=True)
    assert eyes_in(prepared, load_prepared(prepared)) is None


def test_measures_by_hand() -> None:
    logits = np.array([3.0, 1.0, -1.0, 2.0, -2.0, -3.0, -4.0])
    closed = np.array([True, True, True, False, False, False, False])
    unit = UnitCalibration(1.0, 0.0, 0.6)  # from a logit of 0.405 on
    told = measures(logits, closed, unit)
    assert told["auroc"] == pytest.approx(10 / 12)  # 2 is above 1 and -1
    assert told["recall"] == pytest.approx(2 / 3)
    assert told["false_alarms"] == 1 / 4
    probability = 1 / (1 + np.exp(-logits))
    gaps = np.zeros(15)
    np.add.at(gaps, (probability * 15).astype(int), probability - closed)
    assert told["ece"] == pytest.approx(np.abs(gaps).sum() / 7)


def test_without_faces_of_both_kinds_nothing_is_measured(winking: Path) -> None:
    found = eyes_in(winking, load_prepared(winking))
    assert found is not None
    rows = np.arange(0, 140, 2)
    assert measure_closed_eyes(Outputs(rows, None, None, None, np.zeros((70, 1))), found, Calibration()) == {}


def drawn(count: int, seed: int, shift: float = 0.0) -> SeenFaces:
    """The second of three numbers tells closed eyes."""
    rng = np.random.default_rng(seed)
    closed = rng.random(count) < 0.3
    vectors = rng.normal(size=(count, 3)) * [1.0, 0.5, 8.0]
    vectors[:, 1] += 2.0 * closed + shift
    return SeenFaces(vectors, closed)


def test_a_head_finds_what_tells_closed_eyes() -> None:
    head = fit_head([drawn(300, 0), drawn(200, 1)])
    other = drawn(400, 2)
    assert measures(head(other.vectors)[:, 0], other.closed, UNCALIBRATED_UNIT)["auroc"] > 0.98
    assert abs(head.weight[0, 1]) > 50 * abs(head.weight[0, 2])


def test_a_data_set_weighs_the_same_however_often_it_is_repeated() -> None:
    first, second = drawn(80, 0), drawn(60, 1, shift=1.0)
    # Everything but the mean and the spread that scale the penalty follows from the weights.
    once, repeated = fit_head([first, second]), fit_head([first, first, second, second])
    assert repeated.weight == pytest.approx(once.weight, rel=1e-3)
    thrice = SeenFaces(np.tile(second.vectors, (3, 1)), np.tile(second.closed, 3))
    logits = [fit_head([first, each])(first.vectors) for each in (second, thrice)]
    assert logits[0] == pytest.approx(logits[1], abs=0.3)


def test_less_than_one_of_a_hundred_open_eyes_is_called_closed_in_each_set() -> None:
    head = Head(np.array([[0.0, 1.0, 0.0]]), np.zeros(1))
    sets = [drawn(1000, 3), drawn(500, 4, shift=1.5)]  # open eyes of the second look half closed
    unit = fit_calibration(head, sets)
    shares = [measures(head(each.vectors)[:, 0], each.closed, unit)["false_alarms"] for each in sets]
    assert max(shares) < 0.01
    assert max(shares) == shares[1] > 0


def test_a_run_learns_to_tell_closed_eyes(
    finished: FinishedRun,
    taught: Path,
    winking: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, run = load_trained(finished.folder / "best.pt"), Path(shutil.copytree(taught, tmp_path / "run"))
    after = load_evaluable(run)
    assert after.spec.tasks == (*before.spec.tasks, "eyes_closed")
    weights = load_trained(run / "best.pt").weights
    assert all(torch.equal(weights[name], value) for name, value in before.weights.items())
    assert weights.keys() - before.weights.keys() == {"heads.eyes_closed.weight", "heads.eyes_closed.bias"}

    report = tmp_path / "report.json"
    arguments = ["--model", run, "--prepared", winking, "--out", report, "--resamples", 20]
    monkeypatch.setattr(sys, "argv", ["training.evaluate", *map(str, arguments)])
    evaluate.main()
    assert "closed eyes, 10 faces, against 10 with open ones" in capsys.readouterr().out
    told = json.loads(report.read_text())["eyes_closed"]
    assert (told["closed"], told["open"]) == (10, 10)
    assert told["auroc"] > 0.9
    assert told["intervals"]["auroc"][1] <= 1

    fitted = read_calibration(run).eyes_closed
    assert fitted is not None
    monkeypatch.setattr(sys, "argv", ["training.calibrate", "--run", str(run), "--prepared", str(winking)])
    calibrate.main()
    assert read_calibration(run).eyes_closed == fitted

    rest = ["--name", "n", "--version", "1", "--licence", "MIT", "--data-terms", "t"]
    monkeypatch.setattr(sys, "argv", ["training.export", "--run", str(run), "--out", str(tmp_path / "b"), *rest])
    export.main()
    manifest = load_bundle(tmp_path / "b").manifest
    assert manifest.calibration.eyes_closed == fitted
    assert manifest.references["eyes_closed"] == "derived"
    assert manifest.training["eyes_closed"]["datasets"] == ["ferplus"]
    assert str(winking) not in (tmp_path / "b" / "bundle.json").read_text()


def test_an_earlier_head_is_replaced_and_what_was_read_is_told(
    taught: Path, winking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(taught, tmp_path / "run"))
    first = load_trained(run / "best.pt")
    spoilt = {**first.weights, "heads.eyes_closed.bias": torch.tensor([9.0])}
    save_trained(replace(first, weights=spoilt), run / "best.pt")
    command(monkeypatch, "--run", run, "--prepared", winking)
    assert capsys.readouterr().out.startswith("ferplus: 30 validation faces with closed eyes, 30 with open ones\nauroc")
    again = load_trained(run / "best.pt")
    assert again.spec == first.spec
    torch.testing.assert_close(again.weights["heads.eyes_closed.bias"], first.weights["heads.eyes_closed.bias"])


def test_faces_may_be_read_in_bfloat16(
    taught: Path, winking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(taught, tmp_path / "run"))
    first = load_trained(run / "best.pt")
    command(monkeypatch, "--run", run, "--prepared", winking, "--precision", "bfloat16")
    again = load_trained(run / "best.pt")
    told = [each.training["eyes_closed"]["precision"] for each in (first, again)]
    assert told == ["float32", "bfloat16"]
    bias = "heads.eyes_closed.bias"
    torch.testing.assert_close(again.weights[bias], first.weights[bias], rtol=0.05, atol=0.05)


def test_eyes_of_rendered_faces_alone_are_rendered(run: Path) -> None:
    trained = load_evaluable(run)
    spec = replace(trained.spec, tasks=(*trained.spec.tasks, "eyes_closed"))
    taught = {"sets": [{**trained.training["prepared"], "rendered": True}], "validation": {}}
    with_eyes = replace(trained, spec=spec, training={**trained.training, "eyes_closed": taught})
    assert export._references(with_eyes)["eyes_closed"] == "rendered"


def test_what_cannot_be_taught_is_refused(
    run: Path, finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotated = write_prepared(tmp_path / "annotated", annotated=True)
    with pytest.raises(SystemExit, match="does not tell whose eyes are closed: it was prepared without --teacher"):
        command(monkeypatch, "--run", run, "--prepared", annotated)
    with pytest.raises(SystemExit, match="ferplus: fewer than 20 train faces have closed eyes, or open ones"):
        command(monkeypatch, "--run", run, "--prepared", finished.prepared)
    trained = load_trained(run / "best.pt")
    save_trained(replace(trained, spec=replace(trained.spec, hidden=4)), run / "best.pt")
    with pytest.raises(SystemExit, match="is no run on still pictures with linear heads"):
        command(monkeypatch, "--run", run, "--prepared", finished.prepared)
