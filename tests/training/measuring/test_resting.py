"""Faces at rest, by crops whose grey level is ten times the level that the network reads."""

from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from model_core.calibration import AXES, UNCALIBRATED_UNIT, Calibration, UnitCalibration
from tests.fakes import write_prepared
from tests.training.sittings import INPUT, grey_network, write_sittings
from training.data.prepared import load_prepared
from training.datasets import DatasetError
from training.datasets.rendered import MANIFEST
from training.measuring.resting import LevelReader, Rises, fit_limits, read_sittings, rises_at_rest

NAMES = (*AXES, *ACTION_UNITS)


def reader(calibration: Calibration | None = None) -> LevelReader:
    return LevelReader(grey_network(), INPUT, calibration or Calibration())


def both(values: np.ndarray) -> Rises:
    """The same rises in other pictures and in changed ones."""
    return Rises(np.concatenate([values, values]), np.repeat([True, False], len(values)))


def test_levels_are_read_as_they_are_served() -> None:
    crops = [np.full((16, 16, 3), level, np.uint8) for level in (0, 100, 200)]
    units = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU2": UnitCalibration(2.0, -1.0, 0.5)}
    told = reader(Calibration(action_units=units))
    assert told.comparison.names == tuple(ACTION_UNITS)
    levels = told.levels(crops, batch_size=2)
    assert levels[:, 0] == pytest.approx([0, 10, 20], abs=1e-5)
    assert levels[:, 1] == pytest.approx([-1, 19, 39], abs=1e-5)
    assert told.levels([]).shape == (0, 12)


def test_the_baseline_is_the_first_picture_of_the_sitting(tmp_path: Path) -> None:
    prepared = write_sittings(tmp_path / "a", ["train", "validation", "test"], missing=(4, 9))
    sittings = read_sittings(prepared, load_prepared(prepared))
    assert sittings.baseline.tolist() == [0, 0, 0, 0, -1, -1, -1, -1, 8, 8, 8, 8]  # that of record 4 is not found
    assert sittings.neutral.tolist() == [True, False, False, True] * 3
    assert sittings.people[[0, 5, 11]].tolist() == ["ict-0000", "ict-0001", "ict-0002"]


def test_rises_at_rest_by_hand(tmp_path: Path) -> None:
    prepared = write_sittings(tmp_path / "a", ["validation", "train", "validation"])
    faces = load_prepared(prepared)
    rises = rises_at_rest(reader(), faces, read_sittings(prepared, faces), "validation")
    # Two sittings: another neutral picture of each, and seven changes of both of their neutral ones.
    assert rises.values.shape == (2 + 7 * 4, 12)
    assert (rises.values == rises.values[:, :1]).all()
    other, own = (rises.values[rises.other_picture == wanted, 0] for wanted in (True, False))
    # Grey 104 against 100; mirrored, compressed, smaller, shifted and scaled it is the same; 0.8 and 1.25 times.
    assert sorted(other.round(3)) == pytest.approx(sorted([0.4] * 12 + [-1.7] * 2 + [3.0] * 2), abs=0.11)
    assert sorted(own.round(3)) == pytest.approx(sorted([0.0] * 10 + [-2.0] * 2 + [2.5] * 2), abs=0.11)


def test_a_set_without_faces_at_rest_has_no_rises(tmp_path: Path) -> None:
    prepared = write_sittings(tmp_path / "a", ["train"])
    faces = load_prepared(prepared)
    assert rises_at_rest(reader(), faces, read_sittings(prepared, faces), "validation").values.shape == (0, 12)


def test_limits_are_conformal() -> None:
    values = np.random.default_rng(0).permutation(100)[:, None] + np.zeros((100, 14))  # 0 .. 99
    limits = fit_limits(both(values), NAMES)
    # The rank is ceil(101 * 0.95) = 96, which is the value 95: four of a hundred are above.
    assert limits.valence_arousal == {"valence": 95.0, "arousal": 95.0}
    assert limits.action_units == dict.fromkeys(ACTION_UNITS, 95.0)
    assert fit_limits(both(values[:, 2:]), NAMES[2:]).valence_arousal is None
    assert fit_limits(both(values[:, :2]), NAMES[:2]).action_units is None


def test_limits_hold_for_other_pictures_however_many_changed_ones_there_are() -> None:
    values = np.concatenate([np.full((20, 2), 3.0), np.zeros((980, 2))])
    other = np.arange(1000) < 20
    assert fit_limits(Rises(values, other), AXES).by_name == {"valence": 3.0, "arousal": 3.0}
    assert fit_limits(Rises(values, ~other), AXES).by_name == {"valence": 3.0, "arousal": 3.0}


def test_a_limit_is_not_negative() -> None:
    assert set(fit_limits(both(np.full((19, 12), -1.0)), NAMES[2:]).by_name.values()) == {0.0}


def test_limits_hold_for_faces_that_they_were_not_fitted_on() -> None:
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(200):
        limits = fit_limits(both(rng.normal(size=(99, 2))), AXES)
        alarms.append((rng.normal(size=(1000, 2)) > list(limits.by_name.values())).mean())
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.005)


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(ValueError, match="18 faces at rest are too few"):
        fit_limits(both(np.zeros((18, 14))), NAMES)
    with pytest.raises(ValueError, match="0 faces at rest"):
        fit_limits(both(np.zeros((0, 14))), NAMES)
    with pytest.raises(ValueError, match="0 faces at rest"):
        fit_limits(Rises(np.zeros((100, 14)), np.zeros(100, dtype=bool)), NAMES)


def test_other_sets_have_no_sittings(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "photographs")
    with pytest.raises(DatasetError, match="does not hold sittings of rendered faces"):
        read_sittings(prepared, load_prepared(prepared))


def test_a_picture_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    prepared = write_sittings(tmp_path / "a", ["train"])
    lines = (prepared / MANIFEST).read_text().splitlines(keepends=True)
    (prepared / MANIFEST).write_text("".join(lines[:-1]))
    with pytest.raises(DatasetError, match=r"pictures\.jsonl lacks 1 of 4 records, as ict-0000/"):
        read_sittings(prepared, load_prepared(prepared))
