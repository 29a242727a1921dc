"""BP4D: columns by the unit's number, unknown masked, people in one split each."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import ACTION_UNITS
from tests.training.trees import BP4D_UNITS, bp4d, text
from training.datasets import DatasetError
from training.datasets.bp4d import Bp4d, _units
from training.datasets.sequences import Sequence


def sequences(root: Path, **options: int) -> list[Sequence]:
    return list(Bp4d(**options).sequences(root))


def test_known_units_are_read_and_the_rest_is_masked(tmp_path: Path) -> None:
    # Frame, then AU1 2 4 5 6 7 10 12 15 23 24; frame 2 was not coded.
    rows = ("1,1,0,9,1,0,0,0,9,0,0,1", "3,0,0,0,0,0,0,0,1,0,0,0")
    (sequence,) = sequences(bp4d(tmp_path, "F001_T1", rows=rows))
    # AU1 2 4 6 7 10 12 15 23 24 25 26
    assert sequence.targets.action_units.tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0] * 12,
        [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
    ]
    assert sequence.targets.action_units_mask.tolist() == [
        [1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0],
        [0] * 12,
        [1] * 10 + [0, 0],
    ]
    assert [path and path.name for path in sequence.frames] == ["0001.jpg", None, "0003.jpg"]
    assert (sequence.video, sequence.person) == ("F001_T1", "")
    assert not sequence.targets.expression_mask.any()


def test_columns_go_by_their_number(tmp_path: Path) -> None:
    units = (*reversed(BP4D_UNITS), 26)
    root = bp4d(tmp_path, "F001_T1", rows=("1" + ",0" * 10 + ",1,1",), units=units)
    (sequence,) = sequences(root)
    assert sequence.targets.action_units[0].tolist() == [1, *[0] * 10, 1]  # AU1 and AU26
    assert sequence.targets.action_units_mask[0].tolist() == [*[1] * 10, 0, 1]


def test_a_persons_tasks_are_in_one_split(tmp_path: Path) -> None:
    videos = [f"{person}_{task}" for person in ("F001", "F002", "M001", "M002") for task in ("T1", "T8")]
    found = sequences(bp4d(tmp_path, *videos))
    assert [(s.video, s.split) for s in found] == [
        ("F002_T1", "train"),
        ("F002_T8", "train"),
        ("M001_T1", "train"),
        ("M001_T8", "train"),
        ("F001_T1", "test"),
        ("F001_T8", "test"),
        ("M002_T1", "test"),
        ("M002_T8", "test"),
    ]
    assert {s.video for s in sequences(tmp_path, folds=2, fold=1) if s.split == "test"} == {
        "F002_T1",
        "F002_T8",
        "M002_T1",
        "M002_T8",
    }


@pytest.mark.parametrize(
    "row", ["1" + ",0" * 11, "0" + ",0" * 11, "x" + ",0" * 11, "2" + ",0" * 10, "2,2" + ",0" * 10, "2" + ",0" * 12, ""]
)
def test_a_wrong_line_is_named(tmp_path: Path, row: str) -> None:
    root = bp4d(tmp_path, "F001_T1", rows=("1" + ",0" * 11, row, "9" + ",0" * 11))
    with pytest.raises(DatasetError, match=r"F001_T1\.csv line 3: expected a new frame, then 0, 1 or 9"):
        sequences(root)


def test_a_wrong_tree_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expects .*AUCoding/AU_OCC with files like F001_T1\.csv"):
        sequences(tmp_path)
    root = bp4d(tmp_path, "F001_T1")
    path = root / "AUCoding/AU_OCC/F001_T1.csv"
    whole = path.read_text()
    text(path, "0,1,2,4,6,7,10,12,15,23")
    with pytest.raises(DatasetError, match=r"F001_T1\.csv line 1: .*without AU24"):
        sequences(root)
    text(path, whole.splitlines()[0])
    with pytest.raises(DatasetError, match=r"F001_T1\.csv: expected a line a coded frame"):
        sequences(root)
    path.write_text("")
    with pytest.raises(DatasetError, match=r"F001_T1\.csv line 1: .*without AU1, AU2"):
        sequences(root)
    path.write_text(whole)
    (root / "frames/F001/T1").rename(root / "T1")
    with pytest.raises(DatasetError, match=r"frames/F001/T1: expected frames named from 00001\.jpg on"):
        sequences(root)
    (root / "frames").rename(root / "pictures")
    with pytest.raises(DatasetError, match=r"frames in .*frames, as F001/T1/00001\.jpg; videos are not read"):
        sequences(root)
    path.rename(path.with_name("first.csv"))
    with pytest.raises(DatasetError, match=r"files like F001_T1\.csv, and no other"):
        sequences(root)


@given(st.permutations(BP4D_UNITS), st.data())
def test_the_order_of_columns_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], data: st.DataObject
) -> None:
    values = {unit: data.draw(st.sampled_from("019")) for unit in order}
    header, row = ",".join(map(str, (0, *order))), ",".join(("4", *values.values()))
    found = _units(text(tmp_path_factory.mktemp("u") / "F001_T1.csv", header, row))
    expected = {f"AU{unit}": {} if value == "9" else {4: value == "1"} for unit, value in values.items()}
    assert found == {unit: frames for unit, frames in expected.items() if unit in ACTION_UNITS}
