import json
from pathlib import Path

import pytest

from model_core.affect import ACTION_UNITS
from model_core.calibration import AxisCalibration, Calibration, ChangeLimits, ExpressionCalibration
from tests.conftest import TINY_CALIBRATION
from training.runs.checkpoint import CheckpointError
from training.runs.trained import load_evaluable, read_calibration, write_calibration


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        TINY_CALIBRATION,
        Calibration(ExpressionCalibration(0.1 + 0.2, (1 / 3, -1 / 3))),
        Calibration(action_units=TINY_CALIBRATION.action_units),
        Calibration(
            valence_arousal={"valence": AxisCalibration(1.1, 1 / 3, 0.25), "arousal": AxisCalibration(0.9, 0.0, 0.3)}
        ),
        Calibration(change_limits=ChangeLimits({"valence": 0.1, "arousal": 0.2}, dict.fromkeys(ACTION_UNITS, 1 / 3))),
        Calibration(change_limits=ChangeLimits(action_units=dict.fromkeys(ACTION_UNITS, 0.5))),
    ],
)
def test_a_calibration_comes_back_exactly(tmp_path: Path, calibration: Calibration) -> None:
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration


def test_limits_that_were_not_fitted_are_not_written(tmp_path: Path) -> None:
    write_calibration(tmp_path, TINY_CALIBRATION)
    assert "change_limits" not in json.loads((tmp_path / "calibration.json").read_text())


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"expression": null, "action_units": {"AU1": {"slope": 1, "intercept": 0, "threshold": 0.5}}}'],
)
def test_a_damaged_calibration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration\.json is not a calibration .*run training\.calibrate"):
        read_calibration(tmp_path)


def test_a_bundle_is_evaluable(tiny_bundle_dir: Path) -> None:
    evaluable = load_evaluable(tiny_bundle_dir)
    assert evaluable.calibration == TINY_CALIBRATION
    assert evaluable.input.size == 112
    assert not evaluable.network.training
