import numpy as np
import pytest

from model_core.calibration import Calibration, ExpressionCalibration
from tests.training.measuring.test_report import FACES, HAPPY, ROWS, outputs
from training.measuring.answers import answers_of


def test_answers_stand_beside_the_references() -> None:
    answers = answers_of(FACES, ROWS, outputs(), Calibration())
    assert len(answers) == 5
    assert answers.found.tolist() == [True, True, False, True, True]
    assert answers.derived.tolist() == [True, True, False, True, True]
    assert answers.majority.tolist() == FACES.majority.tolist()
    assert answers.expression[0, HAPPY] == pytest.approx(3 / 4)
    assert answers.expression[2].tolist() == [0] * 8
    np.testing.assert_allclose(answers.units[:, 0], [0.25, 0.75, 0, 0.75, 0.75])
    assert answers.thresholds == (0.5,) * 12


def test_calibration_is_applied_beside_the_plain_answer() -> None:
    answers = answers_of(FACES, ROWS, outputs(), Calibration(ExpressionCalibration(2.0, (0.0,) * 8)))
    # A logit of log 21 halved: sqrt(21) against seven ones.
    assert answers.expression[0, HAPPY] == pytest.approx(21**0.5 / (21**0.5 + 7))
    assert answers.expression_plain[0, HAPPY] == pytest.approx(3 / 4)


def test_faces_can_be_taken_twice() -> None:
    taken = answers_of(FACES, ROWS, outputs(), Calibration()).take(np.array([1, 1, 2]))
    assert len(taken) == 3
    assert taken.found.tolist() == [True, True, False]
    assert taken.valence_arousal.tolist() == [[2, 0.5], [2, 0.5], [0, 0]]
    assert taken.labels == FACES.info.labels
