"""What readers of videos share: numbered frames, masked units, and splits by person."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import ACTION_UNITS
from training.datasets.raw import DatasetError
from training.datasets.sequences import numbered_frames, split_subjects, unit_targets


def test_frames_go_by_their_number(tmp_path: Path) -> None:
    for name in ("2.jpg", "00003.png", "notes.txt", "0009.jpg"):
        (tmp_path / name).touch()
    assert numbered_frames(tmp_path, 4) == (None, tmp_path / "2.jpg", tmp_path / "00003.png", None)


@pytest.mark.parametrize("names", [(), ("a.jpg",), ("0000.jpg", "0001.jpg"), ("1.jpg", "00001.jpg")])
def test_ambiguous_frames_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"named from 00001\.jpg on, each number once"):
        numbered_frames(tmp_path, 2)


def test_units_by_hand() -> None:
    targets = unit_targets({"AU12": {1: True, 3: False}, "AU1": {2: True}}, "abaw")
    assert targets.action_units.shape == targets.action_units_mask.shape == (3, 12)
    assert targets.action_units[:, 6].tolist() == [1, 0, 0]  # AU12 is the seventh of the twelve
    assert targets.action_units_mask[:, 6].tolist() == [1, 0, 1]
    assert targets.action_units[:, 0].tolist() == targets.action_units_mask[:, 0].tolist() == [0, 1, 0]
    assert targets.action_units_mask.sum() == 3
    assert targets.expression.shape == (3, 8)
    assert not targets.expression_mask.any()
    assert not targets.valence_arousal_mask.any()


@given(
    st.dictionaries(st.sampled_from(list(ACTION_UNITS)), st.dictionaries(st.integers(1, 20), st.booleans(), min_size=1))
)
def test_masks_are_zero_or_one_and_what_is_masked_is_zero(units: dict[str, dict[int, bool]]) -> None:
    targets = unit_targets(units, "abaw")
    values, mask = targets.action_units, targets.action_units_mask
    assert {array.dtype for array in vars(targets).values()} == {np.dtype(np.float32)}
    assert set(np.unique(mask)) <= {0, 1}
    assert (values <= mask).all()
    assert mask.sum() == sum(len(frames) for frames in units.values())
    assert values.sum() == sum(sum(frames.values()) for frames in units.values())


def test_people_are_split_by_their_place_in_the_order_of_names() -> None:
    people = [f"SN{i:03d}" for i in (3, 1, 2, 4, 5, 6, 7)]
    splits = split_subjects([*people, *people], folds=3, fold=0)
    assert [name for name, split in splits.items() if split == "test"] == ["SN001", "SN004", "SN007"]
    # Of SN002, SN003, SN005, SN006 the fourth.
    assert [name for name, split in splits.items() if split == "validation"] == ["SN006"]
    assert [name for name, split in splits.items() if split == "train"] == ["SN002", "SN003", "SN005"]


@given(st.sets(st.text(min_size=1, max_size=4), max_size=40), st.integers(2, 6))
def test_every_person_is_tested_in_exactly_one_fold(people: set[str], folds: int) -> None:
    all_splits = [split_subjects(people, folds, fold) for fold in range(folds)]
    assert all(set(splits) == people for splits in all_splits)
    for person in people:
        assert [splits[person] for splits in all_splits].count("test") == 1


@pytest.mark.parametrize(("folds", "fold"), [(3, 3), (3, -1), (1, 0), (0, 0)])
def test_a_fold_that_is_not_there_is_refused(folds: int, fold: int) -> None:
    with pytest.raises(DatasetError, match=f"not {fold} of {folds}"):
        split_subjects(["a"], folds, fold)
