"""DISFA: intensities become presence from a stated level on; units it lacks are masked; people are split."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.trees import disfa, text
from training.datasets import DatasetError
from training.datasets.disfa import Disfa
from training.datasets.sequences import Sequence

ZEROS = {"SN001": {}}


def sequences(root: Path, **options: int) -> list[Sequence]:
    return list(Disfa(**options).sequences(root))


@pytest.mark.parametrize(("level", "present"), [(1, [0, 1, 1]), (2, [0, 0, 1]), (3, [0, 0, 0])])
def test_a_unit_is_present_from_a_level_on(tmp_path: Path, level: int, present: list[int]) -> None:
    (sequence,) = sequences(disfa(tmp_path, {"SN001": {12: (0, 1, 2), 9: (5, 5, 5)}}), present_from=level)
    assert sequence.targets.action_units[:, 6].tolist() == present
    assert sequence.targets.action_units.sum() == sum(present)  # AU9 is none of the twelve


def test_the_default_level_is_two(tmp_path: Path) -> None:
    (sequence,) = sequences(disfa(tmp_path, {"SN001": {1: (1, 2, 3)}}))
    assert sequence.targets.action_units[:, 0].tolist() == [0, 1, 1]


def test_units_that_disfa_lacks_and_frames_without_a_line_are_masked(tmp_path: Path) -> None:
    root = disfa(tmp_path, {"SN001": {26: (0, 3)}})
    (root / "frames/SN001/00002.jpg").unlink()
    (sequence,) = sequences(root)
    # AU1 2 4 6 . . 12 15 . . 25 26; AU26 has no third line.
    assert sequence.targets.action_units_mask.tolist() == [
        [1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0],
    ]
    assert not sequence.targets.valence_arousal_mask.any()
    assert not sequence.targets.expression_mask.any()
    assert [path and path.name for path in sequence.frames] == ["00001.jpg", None, "00003.jpg"]
    assert (sequence.video, sequence.person) == ("SN001", "")


def test_people_come_by_split_and_name(tmp_path: Path) -> None:
    root = disfa(tmp_path, {f"SN{i:03d}": {} for i in range(1, 8)}, frames=1)
    assert [(s.video[-1], s.split) for s in sequences(root)] == [
        *((i, "train") for i in "235"),
        ("6", "validation"),
        *((i, "test") for i in "147"),
    ]
    assert [s.video[-1] for s in sequences(root, folds=3, fold=1) if s.split == "test"] == ["2", "5"]


@pytest.mark.parametrize("line", ["2,6", "2,-1", "1000000,1", "0,1", "1,0", "2;1", "2,1,1", "two,1", ""])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    root = disfa(tmp_path, ZEROS)
    text(root / "ActionUnit_Labels/SN001/SN001_au4.txt", "1,0", line, "3,0")
    with pytest.raises(DatasetError, match=r"SN001_au4\.txt line 2: expected a new frame and its intensity 0-5"):
        sequences(root)


def test_a_wrong_tree_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expects .*ActionUnit_Labels with a folder a person: SN001/SN001_au1\.txt"):
        sequences(tmp_path)
    root = disfa(tmp_path, ZEROS)
    (root / "frames/SN001").rename(root / "SN001")
    with pytest.raises(DatasetError, match=r"frames/SN001: expected frames named from 00001\.jpg on"):
        sequences(root)
    (root / "frames").rmdir()
    with pytest.raises(DatasetError, match=r"extracted frames in .*frames, as SN001/00001\.jpg; videos are not read"):
        sequences(root)
    (root / "frames").mkdir()
    (root / "ActionUnit_Labels/SN001/SN001_au25.txt").unlink()
    with pytest.raises(DatasetError, match=r"expects .*SN001_au25\.txt with a line a frame"):
        sequences(root)


@pytest.mark.parametrize("level", [0, 6])
def test_a_level_out_of_range_is_refused(level: int) -> None:
    with pytest.raises(DatasetError, match=f"present_from is 1 to 5, not {level}"):
        Disfa(present_from=level)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 5))
def test_presence_is_intensity_at_or_above_the_level(
    tmp_path_factory: pytest.TempPathFactory, intensities: list[int], level: int
) -> None:
    path = text(tmp_path_factory.mktemp("u") / "a.txt", *(f"{i},{v}" for i, v in enumerate(intensities, start=1)))
    present = Disfa(present_from=level)._present(path)
    assert present == {i: v >= level for i, v in enumerate(intensities, start=1)}
