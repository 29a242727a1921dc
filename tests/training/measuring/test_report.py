import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.calibration import (
    UNCALIBRATED_UNIT,
    AxisCalibration,
    Calibration,
    ExpressionCalibration,
    UnitCalibration,
)
from training.data.prepared import PreparedFaces, PreparedInfo
from training.measuring.report import measure
from training.measuring.report_text import render
from training.measuring.scoring import Outputs

LABELS = LABEL_SETS["ferplus"]
HAPPY, SAD = LABELS.index("happiness"), LABELS.index("sadness")
ROWS = np.arange(5)

# Record 2 was not found, record 3 has no majority.
FACES = PreparedFaces(
    info=PreparedInfo("ferplus", "ferplus", "arcface-1", 4, "yuface-1", 0.6, derived=True),
    crops=np.zeros((5, 4, 4, 3), np.uint8),
    names=np.array(list("abcde")),
    splits=np.array(["test"] * 5),
    found=np.array([True, True, False, True, True]),
    votes=np.zeros((5, 8), np.float32),
    derived=np.array([True, True, False, True, True]),
    action_units=np.zeros((5, 12), np.float32),
    valence_arousal=np.array([[0, 0], [1, 1], [9, 9], [0, 0], [1, 1]], np.float32),
)
FACES.votes[[0, 1], HAPPY] = 10
FACES.votes[[2, 4], SAD] = 10
FACES.votes[3] = 1
FACES.action_units[[1, 4], 0] = 0.3  # AU1: present in two of four
FACES.action_units[[0, 3], 0] = 0.29


def outputs() -> Outputs:
    """The top label has a probability of 3/4: happy, sad, sad, sad for records 0, 1, 3 and 4."""
    expression = np.zeros((4, 8))
    expression[np.arange(4), [HAPPY, SAD, SAD, SAD]] = math.log(21)
    units = np.full((4, 12), -math.log(3))  # a probability of 1/4
    units[:, 0] = [-math.log(3), math.log(3), math.log(3), math.log(3)]
    return Outputs(
        np.array([0, 1, 3, 4]), np.array([[0.0, 0.5], [2.0, 0.5], [0.0, 0.5], [2.0, 0.5]]), expression, units
    )


def test_faces() -> None:
    faces = measure(FACES, ROWS, outputs(), Calibration()).faces
    assert faces == {"dataset": "ferplus", "split": "test", "count": 5, "found": 4, "with_derived_targets": 4}


def test_expression_by_hand() -> None:
    values = measure(FACES, ROWS, outputs(), Calibration()).expression
    # Of the majority set (happy, happy, sad, sad) one is right, one wrong, one not found, one right.
    assert values["count"] == 4
    assert values["accuracy"] == 2 / 4
    assert values["f1"]["happiness"] == pytest.approx(2 / 3)  # one hit, one miss
    assert values["f1"]["sadness"] == pytest.approx(2 / 4)  # one hit, one false alarm, one not found
    assert values["macro_f1_8"] == pytest.approx((2 / 3 + 1 / 2) / 8)
    assert values["macro_f1_without_contempt"] == pytest.approx((2 / 3 + 1 / 2) / 7)
    assert {label: n for label, n in values["support"].items() if n} == {"happiness": 2, "sadness": 2}
    # Confidence 3/4, and two of the three faces that were found are right.
    assert values["ece"] == values["ece_before"] == pytest.approx(3 / 4 - 2 / 3)


def test_calibration_changes_the_confidence_only() -> None:
    cool = ExpressionCalibration(math.log(21) / math.log(7), (0.0,) * 8)  # 7 of 14: a confidence of 1/2
    values = measure(FACES, ROWS, outputs(), Calibration(cool)).expression
    assert values["accuracy"] == 2 / 4
    assert values["ece_before"] == pytest.approx(3 / 4 - 2 / 3)
    assert values["ece"] == pytest.approx(2 / 3 - 1 / 2)


def test_a_class_needs_fifty_faces_for_the_third_mean() -> None:
    assert "macro_f1_at_least_50" not in measure(FACES, ROWS, outputs(), Calibration()).expression
    many = np.repeat([0, 1, 4], [49, 1, 49])  # 50 happy ones, 49 sad ones
    arrays = {name: value[many] for name, value in vars(FACES).items() if isinstance(value, np.ndarray)}
    position = np.array([0, 1, -1, 2, 3])[many]
    given = outputs()
    larger = Outputs(np.arange(99), None, given.expression[position], None)
    values = measure(PreparedFaces(FACES.info, **arrays), np.arange(99), larger, Calibration()).expression
    # Happiness alone counts: 49 hits, one miss.
    assert values["macro_f1_at_least_50"] == pytest.approx(2 * 49 / (49 + 50))


def test_valence_arousal_by_hand() -> None:
    values = measure(FACES, ROWS, outputs(), Calibration()).valence_arousal
    # Valence 0, 2 against 0, 1: 2 * .5 / (1 + .25 + .25); arousal is constant.
    assert values["ccc_valence"] == pytest.approx(2 / 3)
    assert values["ccc_arousal"] == 0
    assert set(values) == {"ccc_valence", "ccc_arousal", "ccc_valence_table", "ccc_arousal_table"}


def test_the_interval_is_checked_on_what_is_measured() -> None:
    # Estimates 0 and 1 after halving 0 and 2: exact, and so within any interval; 1 too high, within none below 1.
    exact, high = AxisCalibration(0.5, 0.0, 0.0), AxisCalibration(0.0, 1.0, 0.5)
    calibration = Calibration(valence_arousal={"valence": exact, "arousal": high})
    values = measure(FACES, ROWS, outputs(), calibration).valence_arousal
    assert values["ccc_valence"] == pytest.approx(1)
    assert values["within_interval_valence"] == 1


def test_action_units_by_hand() -> None:
    unit = measure(FACES, ROWS, outputs(), Calibration()).action_units["AU1"]
    # Present in the second and the fourth; predicted 1/4, 3/4, 3/4, 3/4.
    assert unit["positives"] == 2
    assert unit["f1_at_half"] == unit["f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert unit["auroc"] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)
    assert unit["brier"] == pytest.approx((1 / 16 + 1 / 16 + 9 / 16 + 1 / 16) / 4)
    assert unit["ece"] == pytest.approx((1 * (1 / 4) + 3 * (3 / 4 - 2 / 3)) / 4)
    # Scores .29, .3, .29, .3 against plain sigmoids.
    assert unit["pearson"] == pytest.approx(np.corrcoef([0.25, 0.75, 0.75, 0.75], [0, 1, 0, 1])[0, 1], rel=1e-5)


def test_thresholds_and_platt_numbers_are_applied() -> None:
    units = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU1": UnitCalibration(1, math.log(3), 0.95)}
    unit = measure(FACES, ROWS, outputs(), Calibration(action_units=units)).action_units["AU1"]
    # Probabilities 1/2, 9/10, 9/10, 9/10: all at one half, none at .95.
    assert unit["f1_at_half"] == pytest.approx(2 * 2 / (4 + 2))
    assert unit["f1"] == 0
    assert unit["ece_before"] == pytest.approx((1 / 4 + 3 * (3 / 4 - 2 / 3)) / 4)
    assert unit["brier"] == pytest.approx((0.25 + 0.01 + 0.81 + 0.01) / 4)


def test_what_cannot_be_measured_is_absent() -> None:
    report = measure(FACES, ROWS, outputs(), Calibration())
    # AU2 is never present, and its estimates and targets are constant.
    assert set(report.action_units["AU2"]) == {"positives", "f1_at_half", "f1", "ece_before", "ece", "brier"}
    json.dumps(asdict(report), allow_nan=False)


def repeated(times: int) -> tuple[PreparedFaces, Outputs]:
    """FACES and their outputs, `times` over."""
    many = np.tile(np.arange(5), times)
    faces = PreparedFaces(
        FACES.info, **{name: value[many] for name, value in vars(FACES).items() if isinstance(value, np.ndarray)}
    )
    parts = {name: np.concatenate([value] * times) for name, value in vars(outputs()).items() if value is not None}
    return faces, Outputs(**{**parts, "rows": np.flatnonzero(faces.found)})


def test_means_over_units_count_those_with_fifty_positives() -> None:
    faces, given = repeated(24)
    assert measure(faces, np.arange(120), given, Calibration()).action_units_mean == {"units": [], "f1_units": []}
    faces, given = repeated(25)
    faces.action_units[faces.found, 3] = np.tile([0.9, 0, 0.9, 0], 25)  # AU6, which is not one of the F1 units
    report = measure(faces, np.arange(125), given, Calibration())
    assert {name: unit["positives"] for name, unit in report.action_units.items() if unit["positives"]} == {
        "AU1": 50,
        "AU6": 50,
    }
    means = report.action_units_mean
    # AU6's estimates are constant: no correlation, so the mean over both is undefined, and an AUROC of one half.
    assert set(means) == {"units", "f1_units", "auroc", "f1", "ece"}
    assert (means["units"], means["f1_units"]) == (["AU1", "AU6"], ["AU1"])
    assert means["auroc"] == pytest.approx((0.75 + 0.5) / 2)
    assert means["f1"] == pytest.approx(4 / 5)
    assert "  not counted: AU2 (0 positives), AU4 (0 positives)" in render(report)


def test_intervals_stand_at_the_keys_of_the_measures() -> None:
    faces, given = repeated(40)
    report = measure(faces, np.arange(200), given, Calibration(), resamples=100)
    low, high = report.intervals["expression"]["accuracy"]
    assert low < report.expression["accuracy"] == 0.5 < high
    # 160 faces with a majority: 0.5 +- 1.96 sqrt(0.25 / 160)
    assert high - low == pytest.approx(2 * 0.0775, rel=0.25)
    assert report.intervals["expression"]["f1"]["disgust"] == [0, 0]
    assert set(report.intervals["action_units"]["AU1"]) == {"pearson", "auroc", "f1", "ece"}
    assert set(report.intervals["action_units"]["AU2"]) == {"f1", "ece"}
    assert set(report.intervals["action_units_mean"]) == {"pearson", "auroc", "f1", "ece"}
    assert report == measure(faces, np.arange(200), given, Calibration(), resamples=100)
    assert "  AU1     [" in render(report)
    json.dumps(asdict(report), allow_nan=False)


def test_without_derived_targets_only_expressions_are_measured() -> None:
    faces = replace(FACES, derived=np.zeros(5, bool))
    report = measure(faces, ROWS, outputs(), Calibration())
    assert report.expression
    assert report.valence_arousal == report.action_units == {}


def test_without_majorities_there_is_no_expression_measure() -> None:
    faces = replace(FACES, votes=np.ones((5, 8), np.float32))
    assert measure(faces, ROWS, outputs(), Calibration()).expression == {}


def test_a_report_as_text() -> None:
    lines = render(measure(FACES, ROWS, outputs(), Calibration())).splitlines()
    assert lines[0] == "ferplus test: 4 of 5 faces found"
    assert "  accuracy                  0.5000" in lines
    (table,) = (line for line in lines if line.startswith("  AU2 "))
    assert table.split() == ["AU2", "0", "-", "-", "0.000", "0.000", "0.250", "0.250", "0.062"]


def test_rendered_units_are_present_from_a_slight_one_on() -> None:
    """Intensities of 0.29 and 0.3 are present in a rendered face, where 0.19 is not; a teacher's 0.29 is not."""
    rendered = replace(FACES, info=replace(FACES.info, rendered=True), action_units=FACES.action_units.copy())
    rendered.action_units[3, 0] = 0.19
    report = measure(rendered, ROWS, outputs(), Calibration())
    assert report.action_units["AU1"]["positives"] == 3
    assert report.faces["with_known_action_units"] == 4
    assert "with_derived_targets" not in report.faces
    # Present in the first, second and fourth, by logits of -log 3, log 3 and log 3; the third, absent, has log 3.
    assert report.action_units["AU1"]["auroc"] == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert "action units against known intensities, 4 faces" in render(report)
    assert "action units against the teacher, 4 faces" in render(measure(FACES, ROWS, outputs(), Calibration()))


def test_annotated_valence_arousal_is_measured_where_it_is_annotated() -> None:
    info = replace(FACES.info, annotated=True)
    nobody, both = np.zeros(5, bool), np.array([True, True, True, False, False])
    report = measure(replace(FACES, info=info, derived=nobody, annotated=both), ROWS, outputs(), Calibration())
    assert (report.faces["with_derived_targets"], report.faces["with_annotated_valence_arousal"]) == (0, 2)
    # Records 0 and 1: estimates 0 and 2 of targets 0 and 1. Covariance 1/2, variances 1 and 1/4, means 1 and 1/2.
    assert report.valence_arousal["ccc_valence"] == pytest.approx(2 * (1 / 2) / (1 + 1 / 4 + 1 / 4))
    assert report.action_units == {}
    assert "valence-arousal against annotated targets, 2 faces" in render(report)
