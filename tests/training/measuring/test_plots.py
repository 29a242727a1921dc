import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from model_core.calibration import Calibration
from tests.training.measuring.test_report import FACES, ROWS, outputs
from training.measuring.answers import answers_of
from training.measuring.plots import plot_reliability, plot_robustness

ANSWERS = answers_of(FACES, ROWS, outputs(), Calibration()).take(np.tile(np.arange(5), 20))


def is_drawn(path: Path) -> bool:
    picture = cv2.imread(str(path))
    return min(picture.shape[:2]) > 300 and np.ptp(picture) > 200


def test_reliability_diagrams(tmp_path: Path) -> None:
    written = plot_reliability(ANSWERS, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["reliability_expression.png", "reliability_action_units.png"]
    assert all(is_drawn(path) for path in written)


def test_a_task_that_is_missing_has_no_picture(tmp_path: Path) -> None:
    without = replace(ANSWERS, expression=None, expression_plain=None)
    assert [path.name for path in plot_reliability(without, tmp_path)] == ["reliability_action_units.png"]
    assert plot_reliability(replace(without, units=None, units_plain=None), tmp_path / "none") == []


def test_robustness_curves(tmp_path: Path) -> None:
    curve = {"unit": "px", "levels": [5, 4, 3, 2, 1], "accuracy": [0.8, 0.7, 0.5, 0.4, 0.3], "ece": [0.1] * 5}
    study = {"clean": {"accuracy": 0.9, "ece": 0.02}, "perturbations": dict.fromkeys(["blur", "occlusion_eyes"], curve)}
    assert all(is_drawn(path) for path in plot_robustness(study, tmp_path))


def test_commands_do_without_matplotlib() -> None:
    check = "import sys, training.evaluate, training.studies.robustness; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
