"""The study of baselines, on crops whose grey level is ten times the level that the network reads."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.calibration import UNCALIBRATED_UNIT, Calibration, ChangeLimits, UnitCalibration
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from tests.fakes import write_prepared
from tests.training.sittings import AU12, INPUT, grey_network, write_sittings
from training.data.prepared import load_prepared
from training.datasets import DatasetError
from training.measuring.resting import LevelReader, Sittings, read_sittings
from training.runs.checkpoint import TrainedNetwork, save_trained
from training.studies import baseline
from training.studies.baseline import measure_pictures, study
from training.studies.baseline_tracks import FRAMES, RestingTracks, make_tracks, measure_tracks, movement

UNITS = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU12": UnitCalibration(1.0, -11.0, 0.5)}
"""AU12 is active from the grey level 110 on."""

CALIBRATION = Calibration(action_units=UNITS, change_limits=ChangeLimits(action_units=dict.fromkeys(ACTION_UNITS, 2.2)))
READER = LevelReader(grey_network(), INPUT, CALIBRATION)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write_sittings(tmp_path / "prepared", ["train", *["validation"] * 3, "test", "test"])


def test_pictures_by_hand(prepared: Path) -> None:
    faces = load_prepared(prepared)
    row = measure_pictures(READER, faces, read_sittings(prepared, faces), "test")["AU12"]
    # Grey levels of a sitting: 100 at rest, 180 and 120 with AU12 at 0.8 and 0.3, and 104 at rest.
    assert row["auroc"] == row["auroc_change"] == 1.0
    assert row["alone"] == 2
    assert (row["active_alone"], row["rose_alone"]) == (1.0, 1.0)
    assert row["active_at_rest"] == 0.0
    # Of eight changed neutral pictures and their two originals, the two brightened ones of each sitting rise.
    assert row["rose_at_rest"] == pytest.approx(2 / 15)
    assert row["rose_in_other_picture"] == pytest.approx(1 / 8)
    assert np.isnan(row["rose_elsewhere"])  # nobody has two sittings
    assert np.isnan(row["rose_with_others"])  # AU12 is the only unit that moves
    other = measure_pictures(READER, faces, read_sittings(prepared, faces), "test")["AU1"]
    assert np.isnan(other["rose_alone"])
    assert other["rose_with_others"] == 0.5  # 180 rises with AU12, by 8; 120 by 2, which is below the limit
    assert other["active_at_rest"] == 1.0


def test_people_are_compared_with_themselves_elsewhere(prepared: Path) -> None:
    faces = load_prepared(prepared)
    sittings = read_sittings(prepared, faces)
    same = replace(sittings, people=np.repeat("ict-0000", len(faces)))
    brighter = faces.crops.copy()
    brighter[20:] += 30  # the second test sitting: 130 at rest
    row = measure_pictures(READER, replace(faces, crops=brighter), same, "test")["AU12"]
    assert row["rose_elsewhere"] == 0.5  # 130 against 100 rises by 3, and 100 against 130 does not
    assert row["auroc"] < row["auroc_change"] == 1.0  # one person's rest is as bright as the other's slight movement


def test_limits_are_fitted_where_the_model_has_none(prepared: Path) -> None:
    faces = load_prepared(prepared)
    plain = replace(READER, calibration=Calibration(action_units=UNITS))
    result = study(plain, faces, read_sittings(prepared, faces), "test", 0)
    assert result["limits_fitted_here"]
    assert result["limits"]["action_units"]["AU12"] == pytest.approx(
        3.0, abs=0.01
    )  # 130 against 100, the highest of 24
    assert result["tracks"] == {}
    assert "fitted on the validation people" in baseline.render(result)
    own = study(READER, faces, read_sittings(prepared, faces), "test", 1)
    assert not own["limits_fitted_here"]
    assert "limits of changes: the model's own" in baseline.render(own)
    assert "simulated tracks, means over units" in baseline.render(own)
    assert own["limits"]["action_units"]["AU12"] == 2.2


def test_a_movement_comes_and_goes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mix = movement(rng)
        assert mix.shape == (FRAMES,)
        assert (mix[:15] == 0).all()  # rest comes first
        assert mix.max() == 1
        assert mix.min() == 0
        peak = int(mix.argmax())
        assert (np.diff(mix[: peak + 1]) >= 0).all()
        assert (np.diff(mix[peak:]) <= 0).all()


def test_tracks_blend_pictures_and_units(prepared: Path) -> None:
    faces = load_prepared(prepared)
    tracks = make_tracks(READER, faces, read_sittings(prepared, faces), "test", 3)
    assert tracks.levels.shape == (3, FRAMES, 12)
    assert tracks.units.shape == (3, FRAMES, 12)
    assert tracks.picture[:, AU12] == pytest.approx([-1.0] * 3, abs=1e-4)  # 100 / 10 - 11
    peaks = tracks.units[..., AU12].max(axis=1)
    assert set(peaks.round(6)) <= {0.8, 0.3}
    assert tracks.units[..., AU12] == pytest.approx(tracks.mix * peaks[:, None])


def test_tracks_by_hand() -> None:
    """Two people, of whom one is at rest 3 above the other, raise every unit by 2.5 in half of the frames."""
    mix = np.zeros((2, FRAMES))
    mix[:, 40:] = 1.0
    rest = np.array([10.0, 13.0])
    levels = np.repeat((rest[:, None] + 2.5 * mix)[..., None], 12, axis=2)
    units = np.repeat(0.8 * mix[..., None], 12, axis=2)
    tracks = RestingTracks(levels, levels, np.repeat(rest[:, None], 12, axis=1), mix, units)
    plain = replace(READER, calibration=replace(CALIBRATION, action_units=None))
    figures = measure_tracks(plain, tracks)
    assert list(figures) == ["none", "picture", "first second", *(f"auto {q:g}" for q in (0.05, 0.1, 0.2, 0.3, 0.5))]
    # Of the pairs of a moving and a resting frame only one in four is ranked wrongly: 12.5 against 13.
    assert figures["none"] == {"auroc": 0.75, "found": 1.0, "at_rest": 1.0}
    for name in ("picture", "first second", "auto 0.05", "auto 0.3"):
        assert figures[name] == {"auroc": 1.0, "found": 1.0, "at_rest": 0.0}
    assert figures["auto 0.5"]["found"] == 0.0  # half-way between rest and movement, 1.25 is below the limit


def test_the_command_measures_a_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec("mfn-pooled", ("expression", "action_units"), LABEL_SETS["ferplus"])
    (tmp_path / "run").mkdir()
    small = replace(INPUT, size=32)
    save_trained(TrainedNetwork(spec, small, build_network(spec).state_dict(), {}), tmp_path / "run" / "best.pt")
    out = tmp_path / "baseline.json"
    arguments = ["--model", tmp_path / "run", "--prepared", prepared, "--tracks", 0, "--out", out]
    monkeypatch.setattr(sys, "argv", ["baseline", *map(str, arguments)])
    baseline.main()
    figures = json.loads(out.read_text())
    assert list(figures["units"]) == list(ACTION_UNITS)
    assert figures["limits_fitted_here"]
    printed = capsys.readouterr().out
    assert printed.startswith("pictures of test; limits of changes: fitted on the validation people")
    assert "simulated tracks" not in printed


def test_a_set_of_photographs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = write_prepared(tmp_path / "photographs")
    monkeypatch.setattr(sys, "argv", ["baseline", "--prepared", str(prepared)])
    with pytest.raises(SystemExit, match=r"error: .*does not hold sittings of rendered faces"):
        baseline.main()


def test_a_split_without_movements_is_refused(prepared: Path) -> None:
    faces = load_prepared(prepared)
    still = Sittings(**{**vars(read_sittings(prepared, faces)), "kinds": np.repeat("neutral", len(faces))})
    with pytest.raises(DatasetError, match="no picture of test shows a movement"):
        make_tracks(READER, faces, still, "test", 1)
