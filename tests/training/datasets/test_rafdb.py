"""RAF-DB: labels by their published meaning, a validation split, and every fault named."""

from pathlib import Path

import numpy as np
import pytest

from model_core.affect import LABEL_SETS
from tests.training.trees import rafdb, text
from training.datasets import DatasetError, RawFace
from training.datasets.rafdb import RafDb

LABELS = LABEL_SETS["rafdb"]


def faces(root: Path) -> list[RawFace]:
    return list(RafDb().faces(root))


def test_every_number_has_its_published_meaning(tmp_path: Path) -> None:
    found = faces(rafdb(tmp_path, *(f"test_{i:04d}.jpg {i}" for i in range(1, 8))))
    assert [LABELS[face.votes.index(1)] for face in found] == [
        "surprise",
        "fear",
        "disgust",
        "happiness",
        "sadness",
        "anger",
        "neutral",
    ]
    assert {sum(face.votes) for face in found} == {1}


def test_a_tenth_of_the_training_pictures_is_for_validation(tmp_path: Path) -> None:
    found = faces(rafdb(tmp_path, *(f"train_{i:05d}.jpg 4" for i in range(8, 16)), "test_0009.jpg 4"))
    assert [face.name for face in found if face.split == "validation"] == ["train_00009.jpg", "train_00014.jpg"]
    assert [face.name for face in found if face.split == "test"] == ["test_0009.jpg"]
    assert len([face for face in found if face.split == "train"]) == 6
    assert all(face.path.is_file() for face in found)
    assert found[0].path == tmp_path / "Image/aligned/train_00008_aligned.jpg"


def test_a_picture_is_enlarged_and_framed(tmp_path: Path) -> None:
    frame = RafDb().load(faces(rafdb(tmp_path, "train_00001.jpg 5"))[0])
    # 40 pixels enlarged 5 times, and a border of 66.
    assert (frame.shape, frame.dtype) == ((332, 332, 3), np.uint8)
    assert (frame == 70).all()


@pytest.mark.parametrize("line", ["train_00002.jpg 8", "train_00002.jpg 0", "valid_1.jpg 3", "train_00002.png 3", ""])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    root = rafdb(tmp_path, "train_00001.jpg 5")
    text(root / "EmoLabel/list_patition_label.txt", "train_00001.jpg 5", line)
    with pytest.raises(DatasetError, match=r"list_patition_label\.txt line 2: expected `train_00001\.jpg 5`"):
        faces(root)


@pytest.mark.parametrize("missing", ["EmoLabel", "Image"])
def test_a_wrong_tree_is_refused_with_what_was_expected(tmp_path: Path, missing: str) -> None:
    (rafdb(tmp_path, "train_00001.jpg 5") / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"expects EmoLabel/.*\.txt and Image/aligned/ in .*`basic`"):
        faces(tmp_path)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    (face,) = faces(rafdb(tmp_path, "train_00001.jpg 5"))
    face.path.write_text("not a picture")
    with pytest.raises(DatasetError, match=r"missing or unreadable: .*train_00001_aligned\.jpg"):
        RafDb().load(face)
