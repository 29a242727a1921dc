from pathlib import Path

import pytest

from tests.training.trees import picture, text
from training.datasets.frame_folders import unlabelled_sequences, wanted_rows
from training.datasets.raw import DatasetError

HEADER = "image_location,valence,arousal"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Video `a` with frames 1 and 3, a second person `a_left` with frame 2, and `empty`, in which no face was found."""
    for name in ("a/00001.jpg", "a/00003.jpg", "a_left/00002.jpg"):
        picture(tmp_path / "crops" / name)
    (tmp_path / "crops" / "empty").mkdir()
    return tmp_path / "crops"


def test_all_frames_of_the_videos_that_are_named(root: Path, tmp_path: Path) -> None:
    names = text(tmp_path / "names.txt", "a_left", "", "a")
    rows = [("a_left", 1), ("a_left", 2), ("a", 1), ("a", 2), ("a", 3)]
    assert wanted_rows(root, names, HEADER) == rows
    (root / "empty").rmdir()
    assert sorted(wanted_rows(root, None, HEADER)) == sorted(rows)


def test_the_frames_of_the_example_file(root: Path, tmp_path: Path) -> None:
    example = text(tmp_path / "example.txt", HEADER, "empty/00001.jpg", "a/00004.jpg,0,0", "a/00002.jpg")
    rows = wanted_rows(root, example, HEADER)
    assert rows == [("empty", 1), ("a", 4), ("a", 2)]
    empty, a = unlabelled_sequences(root, rows)
    assert (empty.name, empty.frames) == ("empty", (None,))
    assert (a.name, a.split) == ("a", "test")
    assert a.frames == (root / "a" / "00001.jpg", None, root / "a" / "00003.jpg", None)
    assert not a.targets.valence_arousal_mask.any()
    assert a.targets.expression.shape == (4, 8)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "names no video"),
        (["image_location,Neutral"], "line 1: expected 'image_location,valence,arousal', found"),
        ([HEADER, "a/1.png"], r"line 2: expected a frame such as video/00001\.jpg, found 'a/1\.png'"),
        ([HEADER, "", "a/00000.jpg"], "line 3: expected a frame"),
        ([HEADER, "../a/00001.jpg"], "line 2: expected a frame"),
        (["a", "nowhere"], "nowhere: expected frames named from 00001"),
    ],
)
def test_a_list_that_cannot_be_used(lines: list[str], message: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        wanted_rows(root, text(tmp_path / "list.txt", *lines), HEADER)


def test_a_folder_that_is_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone is missing: the video is to be answered"):
        unlabelled_sequences(root, [("gone", 1)])
    with pytest.raises(DatasetError, match="nowhere has no folders of frames"):
        wanted_rows(tmp_path / "nowhere", None, HEADER)
