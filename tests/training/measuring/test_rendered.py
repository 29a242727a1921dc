from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from tests.training.measuring.pictures import answers_for, picture
from training.datasets import DatasetError
from training.datasets.rendered import MANIFEST, as_json
from training.measuring.rendered import measure_rendered, people_of, pictures_of, resting_rows

BERTA = {"person": "berta", "original": "berta"}


PICTURES = [
    picture(0, 0),
    picture(0, 1, {"AU1": 0.3}),
    picture(0, 2, {"AU1": 0.5}),
    picture(0, 3, {"AU4": 0.6}),
    picture(1, 0, **BERTA),
    picture(1, 1, {"AU1": 0.9}, **BERTA),
    picture(1, 2, {"AU1": 0.1}, **BERTA),
    picture(1, 3, **BERTA),
]
"""Berta's brows look raised at rest; AU1 is moved in rows 1, 2 and 5, and hardly in row 6."""

LOGITS = np.array([-3.0, -2.0, -1.0, -3.5, 0.5, 2.0, 9.0, 0.6])


def test_a_unit_by_hand() -> None:
    report = measure_rendered(answers_for(PICTURES, LOGITS), PICTURES)
    unit = report["units"]["AU1"]
    assert (unit["moved"], unit["clear"]) == (3, 2)
    # Moved: -2, -1, 2; unmoved: -3, -3.5, 0.5, 0.6; row 6 is neither. -2 and -1 each beat two, 2 beats all: 8 of 12.
    assert unit["auroc"] == pytest.approx(8 / 12)
    # Changes of moved: 1, 2, 1.5; of unmoved, less the first pictures themselves: -0.5, 0.1.
    assert unit["auroc_change"] == 1
    # Those of row 6 count here, too.
    intensities = [PICTURES[row].left[0] for row in (1, 2, 3, 5, 6, 7)]
    told = [0.1, 0.2, -0.05, 0.15, 0.85, 0.01]
    assert unit["pearson_change"] == pytest.approx(np.corrcoef(told, intensities)[0, 1])
    # Of the faces with 0.5 and 0.9, only the second has a logit above 0.
    assert unit["recall"] == 0.5
    # At rest: -3, 0.5, 0.6.
    assert unit["active_at_rest"] == pytest.approx(2 / 3)
    assert (report["people"], report["resting"]) == (2, 3)


def test_a_unit_that_nobody_moves_has_no_auroc_and_no_mean_counts_it() -> None:
    report = measure_rendered(answers_for(PICTURES, LOGITS), PICTURES)
    assert set(report["units"]["AU26"]) == {"moved", "clear", "active_at_rest"}
    assert report["units_mean"] == {"active_at_rest": pytest.approx(2 / 3)}


def test_means_are_over_the_twelve_units() -> None:
    moved = [picture(0, 0), *(picture(0, 1 + i, {unit: 0.8}) for i, unit in enumerate(ACTION_UNITS))]
    logits = np.array([0.0, *range(1, 13)])
    report = measure_rendered(answers_for(moved, logits), moved)
    # Unit i beats the face at rest and the i units before it, of 12 unmoved faces: the mean of 1/12 .. 12/12.
    assert report["units_mean"]["auroc"] == pytest.approx(6.5 / 12)
    # The face at rest does not count: the mean of 0/11 .. 11/11.
    assert report["units_mean"]["auroc_change"] == pytest.approx(0.5)
    assert report["units_mean"]["recall"] == 1


def test_faces_that_were_not_found_do_not_count() -> None:
    found = [True, True, False, True, False, True, True, True]
    unit = measure_rendered(answers_for(PICTURES, LOGITS, found=found), PICTURES)["units"]["AU1"]
    assert (unit["moved"], unit["clear"], unit["recall"]) == (2, 1, 1)
    # Berta's first picture is missing, so only Anna's changes are known: 1 against -0.5.
    assert unit["auroc_change"] == 1
    assert unit["active_at_rest"] == 0.5


def test_composed_expressions() -> None:
    composed = {"kind": "expression", "expression": "anger"}
    shown = [
        picture(0, 0),
        picture(0, 1, {"AU4": 0.4}, **composed),
        picture(0, 2, {"AU4": 0.39}, **composed),
        picture(0, 3, {"AU4": 0.9}, **composed),
        picture(0, 4, {"AU10": 0.9}, **(composed | {"expression": "disgust"})),
        picture(0, 5, {"AU12": 0.9}),
        picture(0, 6),
    ]
    said = ["neutral", "anger", "happiness", "neutral", "disgust", "happiness", "sadness"]
    found = [True, True, True, True, False, True, True]
    values = measure_rendered(answers_for(shown, np.zeros(7), said=said, found=found), shown)["expressions"]
    assert values["count"] == 3
    assert values["right"] == pytest.approx(1 / 3)
    assert values["right_by_class"] == {"anger": 0.5, "disgust": 0}
    assert values["support"] == {"anger": 2, "disgust": 1}
    assert values["mean_by_class"] == 0.25
    assert values["rest_called_neutral"] == 0.5


def test_intervals_are_over_people() -> None:
    people = [picture(n, 0, person=f"p{n}", original=f"p{n}") for n in range(10) for _ in range(50)]
    logits = np.repeat(np.where(np.arange(10) % 2 == 0, 1.0, -1.0), 50)
    report = measure_rendered(answers_for(people, logits), people, resamples=200)
    low, high = report["intervals"]["units"]["AU1"]["active_at_rest"]
    # Ten people, 0.5 +- 1.96 sqrt(0.25 / 10) = 0.31, although there are 500 pictures.
    assert high - low >= 0.5


def test_a_counterpart_is_the_person_whom_it_resembles() -> None:
    assert people_of([picture(0, 0), picture(1, 0, person="anna-skin")]).tolist() == ["anna", "anna"]


def test_the_picture_at_rest_is_that_of_the_sitting() -> None:
    given = [picture(0, 1, {"AU1": 1}), picture(2, 0), picture(0, 0), picture(2, 5), picture(3, 1), picture(4, 10)]
    assert resting_rows(given).tolist() == [2, 1, 2, 1, -1, -1]


def test_pictures_are_found_by_the_records_names(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("".join(map(as_json, PICTURES)))
    names = np.array(["berta/pictures/000/000001-2.jpg", "anna/pictures/000/000000-0.jpg"])
    assert [each.file[-8:-4] for each in pictures_of(tmp_path, names)] == ["01-2", "00-0"]
    with pytest.raises(DatasetError, match=r"lacks 1 of 3 records, as x"):
        pictures_of(tmp_path, np.array([*names, "x"]))
