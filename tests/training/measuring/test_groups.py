from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from model_core.baseline import Comparison
from model_core.calibration import Calibration
from training.datasets import DatasetError
from training.measuring.answers import Answers
from training.measuring.groups import measure_groups, read_groups

NAMES = np.array(["a.png", "b.png"])


def table(folder: Path, text: str) -> Path:
    (folder / "groups.csv").write_text(text)
    return folder / "groups.csv"


def test_values_are_found_by_name(tmp_path: Path) -> None:
    path = table(tmp_path, "name,age,place\nb.png,20-29,\nother.png,0,x\na.png,30-39,y\n")
    assert read_groups(path, "age", NAMES).tolist() == ["30-39", "20-29"]
    assert read_groups(path, "place", NAMES).tolist() == ["y", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\na.png,1\nb.png,2\n", r"no column 'sex'; it has: name, age"),
        ("file,sex\na.png,1\n", r"no column 'name'; it has: file, sex"),
        ("", r"no column 'name'; it has: none"),
        ("name,sex\nc.png,1\n", r"lacks 2 of 2 records, the first is a\.png"),
        ("name,sex\na.png,1\n", r"lacks 1 of 2 records, the first is b\.png"),
        ("name,sex\na.png,1\nb.png,1\na.png,2\n", r"names a\.png twice"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_groups(table(tmp_path, text), "sex", NAMES)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.csv is not a readable CSV file"):
        read_groups(tmp_path / "nowhere.csv", "sex", NAMES)


def answers(count: int) -> Answers:
    """Two labels in turn, of which the first half of the faces is told, the second half always called the first."""
    actual = np.arange(count) % 2
    said = np.where(np.arange(count) < count // 2, actual, 0)
    expression = np.eye(2)[said] * 0.8 + 0.1
    units = np.tile(actual[:, None] * 0.8 + 0.1, (1, len(ACTION_UNITS)))
    units[count // 2 :] = 0.5
    targets = np.stack([actual, actual], axis=1).astype(float)
    return Answers(
        labels=("neutral", "happiness"),
        thresholds=(0.5,) * len(ACTION_UNITS),
        va_half_widths=None,
        found=np.ones(count, bool),
        derived=np.ones(count, bool),
        majority=actual,
        va_targets=targets,
        unit_targets=np.tile(actual[:, None].astype(float), (1, len(ACTION_UNITS))),
        unit_reference="derived",
        units_present=np.tile(actual[:, None] == 1, (1, len(ACTION_UNITS))),
        valence_arousal=targets,
        va_table=None,
        expression=expression,
        expression_plain=expression,
        unit_logits=units,
        units=units,
        units_plain=units,
        unit_levels=units,
        comparison=Comparison.of(("action_units",), Calibration()),
    )


def test_groups_by_hand() -> None:
    groups = np.repeat(["told", "untold"], 100)
    result = measure_groups(answers(200), "kind", groups, resamples=20)
    assert (result["column"], result["minimum"]) == ("kind", 30)
    assert result["classes"] == ["neutral", "happiness"]
    assert result["units"] == list(ACTION_UNITS)
    told, untold = result["values"]["told"], result["values"]["untold"]
    assert told["count"] == untold["count"] == 100
    assert (told["accuracy"], told["macro_f1"], told["ccc_valence"], told["auroc"]) == (1, 1, 1, 1)
    assert told["intervals"]["accuracy"] == [1, 1]
    # Neutral: 50 hits, 50 false alarms; happiness: never.
    assert untold["macro_f1"] == pytest.approx((2 * 50 / 150 + 0) / 2)
    assert untold["auroc"] == 0.5
    low, high = untold["intervals"]["accuracy"]
    assert low < untold["accuracy"] == 0.5 < high


def test_intervals_are_over_people() -> None:
    """Everything is right of the first half of the people, and half of it of the others, whose faces are all alike."""
    given, group = answers(200), np.array(["all"] * 200)
    people = np.repeat(np.arange(4), 50)
    of_faces, of_people = (
        measure_groups(given, "kind", group, 200, each)["values"]["all"]["intervals"]["accuracy"]
        for each in (None, people)
    )
    assert of_people == [0.5, 1.0]
    assert of_faces == pytest.approx([0.69, 0.81], abs=0.02)


def test_small_groups_have_no_numbers() -> None:
    groups = np.array(["few"] * 29 + ["many"] * 171)
    values = measure_groups(answers(200), "kind", groups)["values"]
    assert values["few"] == {"count": 29, "with_majority": 29, "with_derived_targets": 29}
    assert "accuracy" in values["many"]


def test_a_group_without_a_class_has_no_mean_over_classes() -> None:
    given = answers(200)
    values = measure_groups(given, "label", given.majority.astype(str))["values"]
    assert set(values["0"]) == {
        "count",
        "with_majority",
        "with_derived_targets",
        "accuracy",
        "ccc_valence",
        "ccc_arousal",
        "intervals",
    }


def test_a_group_with_annotated_valence_arousal_needs_no_teacher() -> None:
    annotated = replace(answers(60), derived=np.zeros(60, bool), annotated=np.ones(60, bool))
    values = measure_groups(annotated, "kind", np.array(["all"] * 60), resamples=2)["values"]["all"]
    assert (values["with_derived_targets"], values["ccc_valence"]) == (0, 1)
    assert "auroc" not in values
