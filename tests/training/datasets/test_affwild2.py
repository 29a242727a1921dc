"""Aff-Wild2: every spelling, gap, suffix, mark and fault of the layout, on small trees."""

from pathlib import Path

import numpy as np
import pytest

from training.datasets.affwild2 import AffWild2
from training.datasets.raw import DatasetError
from training.datasets.sequences import Sequence

VA, EXPR, AU = "VA_Estimation_Challenge", "EXPR_Recognition_Challenge", "AU_Detection_Challenge"
HEADERS = {
    VA: "valence,arousal",
    EXPR: "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    AU: "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
}
NOTES = "6th_ABAW_Annotations"


def annotate(root: Path, task: str, *lines: str, name: str = "a", header: str | None = None) -> None:
    """One training file of `task` with these lines, and a validation file of the video `v`."""
    text = HEADERS[task] if header is None else header
    fill = {VA: "0,0", EXPR: "0", AU: ",".join("0" * 12)}[task]
    for split, stem, rows in (("Train_Set", name, lines), ("Validation_Set", "v", (fill,))):
        path = root / NOTES / task / split / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join((text if split == "Train_Set" else HEADERS[task], *rows)) + "\n")


def crop(root: Path, *numbers: int, name: str = "a", folder: str = "cropped_aligned") -> None:
    """Empty frame files of one person and of the validation video."""
    for stem, wanted in ((name, numbers), ("v", (1,))):
        (root / folder / stem).mkdir(parents=True, exist_ok=True)
        for number in wanted:
            (root / folder / stem / f"{number:05d}.jpg").touch()


def first(root: Path) -> Sequence:
    return next(AffWild2().sequences(root))


def test_three_tasks_meet_in_one_sequence_with_ignored_entries_masked(tmp_path: Path) -> None:
    annotate(tmp_path, VA, "0.5,-0.25", "-5,0.3", "-1,1")
    annotate(tmp_path, EXPR, "4", "-1")
    # A frame with any unknown unit does not count for the others either (as the published protocol drops it).
    annotate(tmp_path, AU, "1,-1,0,0,0,0,0,0,0,0,0,1", ",".join(["-1"] * 12), "1,0,0,0,0,0,0,0,0,0,0,1")
    crop(tmp_path, 1, 3, 4)
    found = list(AffWild2().sequences(tmp_path))
    assert [(s.video, s.person, s.split) for s in found] == [("a", "", "train"), ("v", "", "validation")]
    assert [path and path.name for path in found[0].frames] == ["00001.jpg", None, "00003.jpg"]
    targets = found[0].targets
    assert targets.valence_arousal.tolist() == [[0.5, -0.25], [0, 0], [-1, 1]]
    assert targets.valence_arousal_mask.tolist() == [1, 0, 1]
    assert targets.expression.tolist() == [[0, 0, 0, 0, 1, 0, 0, 0], [0] * 8, [0] * 8]
    assert targets.expression_mask.tolist() == [1, 0, 0]
    assert targets.action_units.tolist() == [[0] * 12, [0] * 12, [1, *[0] * 10, 1]]
    assert targets.action_units_mask.tolist() == [[0] * 12, [0] * 12, [1] * 12]
    assert {array.dtype for array in vars(targets).values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("notes", ["6th ABAW Annotations", "6th_ABAW_Annotations", "8th_ABAW_Annotations"])
@pytest.mark.parametrize("task", ["EXPR_Recognition_Challenge", "EXPR_Classification_Challenge"])
@pytest.mark.parametrize(
    "folder", ["cropped_aligned", "batch1", "batch2/cropped_aligned", "cropped_aligned_new_50_vids"]
)
def test_every_spelling(tmp_path: Path, notes: str, task: str, folder: str) -> None:
    annotate(tmp_path, EXPR, "7")
    (tmp_path / NOTES / EXPR).rename(tmp_path / NOTES / task)
    (tmp_path / NOTES).rename(tmp_path / notes)
    crop(tmp_path, 1, folder=folder)
    assert first(tmp_path).targets.expression.argmax() == 7


@pytest.mark.parametrize("person", ["left", "right"])
def test_a_suffix_names_the_person(tmp_path: Path, person: str) -> None:
    annotate(tmp_path, VA, "0,0", name=f"a_{person}")
    crop(tmp_path, 1, name=f"a_{person}")
    sequence = first(tmp_path)
    assert (sequence.video, sequence.person) == ("a", person)
    assert sequence.frames == (tmp_path / f"cropped_aligned/a_{person}/00001.jpg",)


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (VA, "0"),
        (VA, "1.5,0"),
        (VA, "nan,0"),
        (VA, "x,0"),
        (EXPR, "8"),
        (EXPR, "0.5"),
        (EXPR, ""),
        (AU, "1,0"),
        (AU, "2" + ",0" * 11),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, task: str, line: str) -> None:
    annotate(tmp_path, task, line, {VA: "0,0", EXPR: "0", AU: ",".join("0" * 12)}[task])
    crop(tmp_path, 1)
    with pytest.raises(DatasetError, match=r"a\.txt line 2: expected"):
        first(tmp_path)


@pytest.mark.parametrize("header", ["arousal,valence", "0.1,0.2", ""])
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    annotate(tmp_path, VA, "0,0", header=header)
    crop(tmp_path, 1)
    with pytest.raises(DatasetError, match=r"a\.txt line 1: expected the header 'valence,arousal'"):
        first(tmp_path)


def test_missing_and_misspelt_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expects a folder"):
        first(tmp_path / "none")
    with pytest.raises(DatasetError, match="expects one folder like '6th_ABAW_Annotations'"):
        first(tmp_path)
    annotate(tmp_path, VA, "0,0")
    with pytest.raises(DatasetError, match="expects frames in one of cropped_aligned"):
        first(tmp_path)
    (tmp_path / "batch1").mkdir()
    with pytest.raises(DatasetError, match="expects one folder 'a' of frames"):
        first(tmp_path)
    (tmp_path / "batch1/a").mkdir()
    with pytest.raises(DatasetError, match=r"named from 00001\.jpg on"):
        first(tmp_path)
    (tmp_path / NOTES / VA / "Validation_Set").rename(tmp_path / NOTES / VA / "Valid_Set")
    with pytest.raises(DatasetError, match=r"expects .*Validation_Set with a \.txt"):
        first(tmp_path)
    (tmp_path / NOTES / "VA_Estimation").mkdir()
    with pytest.raises(DatasetError, match="VA_Estimation: expected only"):
        first(tmp_path)
