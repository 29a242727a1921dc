"""AffectNet's three forms: labels by meaning, what is not annotated, and every fault named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import LABEL_SETS
from model_core.faces.geometry import Box
from tests.training.trees import AFFECTNET_HEADER, affectnet_csv, affectnet_npy, picture, text
from training.datasets import DatasetError, RawFace
from training.datasets.affectnet import AffectNet, _csv_face

LABELS = LABEL_SETS["affectnet8"]
ROW = "1/a.jpg,10,20,16,12,1.5;2.5,1,0.5,-0.25"


def faces(root: Path) -> list[RawFace]:
    return list(AffectNet().faces(root))


def label(face: RawFace) -> str | None:
    return LABELS[face.votes.index(1)] if sum(face.votes) == 1 else None


def test_the_csv_form(tmp_path: Path) -> None:
    rows = [ROW, "7/a.jpg,0,0,-1,0,,8,-2,-2", "1/b.jpg,0,0,9,9,,6,-1,1"]
    found = faces(affectnet_csv(tmp_path, rows))
    # CRC-32 of `7/a.jpg` is divisible by ten; AffectNet's own validation set is where results are reported.
    assert [(face.name, face.split) for face in found] == [
        ("1/a.jpg", "train"),
        ("7/a.jpg", "validation"),
        ("1/b.jpg", "train"),
        ("1/v.jpg", "test"),
    ]
    assert [label(face) for face in found] == ["happiness", None, "anger", "neutral"]
    assert [face.valence_arousal for face in found] == [(0.5, -0.25), None, (-1, 1), (0, 0)]
    assert [face.box for face in found[:2]] == [Box(10, 20, 16, 12), None]
    assert found[0].path == tmp_path / "Manually_Annotated_Images/1/a.jpg"


@pytest.mark.parametrize("lists", ["", "Manually_Annotated_file_lists"])
@pytest.mark.parametrize("pictures", ["images", "Manually_Annotated/Manually_Annotated_Images"])
def test_every_spelling_of_the_csv_form(tmp_path: Path, lists: str, pictures: str) -> None:
    root = affectnet_csv(tmp_path, [ROW])
    (root / pictures).parent.mkdir(exist_ok=True)
    (root / "Manually_Annotated_Images").rename(root / pictures)
    (root / lists).mkdir(exist_ok=True)
    for name in ("training.csv", "validation.csv"):
        (root / name).rename(root / lists / name)
    assert [face.path for face in faces(root)] == [root / pictures / "1/a.jpg", root / pictures / "1/v.jpg"]


def test_the_npy_form(tmp_path: Path) -> None:
    values = {10: ("7", "-0.5", "0.5"), 2: ("3", "-2", "0"), 28: ("10", "-2", "-2")}
    found = faces(affectnet_npy(tmp_path, values))
    assert [face.name for face in found] == [
        "train_set/images/2.jpg",
        "train_set/images/10.jpg",
        "train_set/images/28.jpg",
        "val_set/images/5.jpg",
    ]
    assert [face.split for face in found] == ["train", "train", "validation", "test"]
    assert [label(face) for face in found] == ["surprise", "contempt", None, "neutral"]
    assert [face.valence_arousal for face in found] == [None, (-0.5, 0.5), None, (0, 0)]
    assert all(face.path.is_file() and face.box is None for face in found)


@pytest.mark.parametrize("published", ["val", "valid", "validation", "test"])
def test_folders_are_read_by_name(tmp_path: Path, published: str) -> None:
    for name in ("train/happy/b.jpg", "train/happy/a.PNG", "train/Anger/a.jpg", f"{published}/sad/a.jpeg"):
        picture(tmp_path / name)
    text(tmp_path / "train" / "happy" / "notes.txt")
    found = faces(tmp_path)
    assert [(face.name, face.split, label(face)) for face in found] == [
        ("train/Anger/a.jpg", "validation", "anger"),  # by the CRC-32 of its name
        ("train/happy/a.PNG", "train", "happiness"),
        ("train/happy/b.jpg", "train", "happiness"),
        (f"{published}/sad/a.jpeg", "test", "sadness"),
    ]
    assert {face.valence_arousal for face in found} == {None}


@pytest.mark.parametrize("name", ["0", "3", "class001", "joyful"])
def test_a_folder_without_an_expressions_name_is_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "train" / name / "a.jpg")
    picture(tmp_path / "val" / "happy" / "a.jpg")
    with pytest.raises(DatasetError, match=rf"train/{name}: expected a folder named by its expression: neutral, happy"):
        faces(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "expected subDirectory_filePath,"),
        ("1/a.jpg,0,0,9,9,1,0,0", "expected subDirectory_filePath,"),
        ("1/a.jpg,0,0,9,inf,,1,0,0", "expected subDirectory_filePath,"),
        ("1/a.jpg,0,0,9,9,,happy,0,0", "expected subDirectory_filePath,"),
        ("1/a.jpg,0,0,9,9,,11,0,0", "expected an expression from 0 to 10, found 11"),
        ("1/a.jpg,0,0,9,9,,0.5,0,0", "expected an expression from 0 to 10, found 0.5"),
        ("1/a.jpg,0,0,9,9,,1,1.5,0", "or -2, found 1.5 and 0"),
        ("1/a.jpg,0,0,9,9,,1,0,nan", "or -2, found 0 and nan"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    root = affectnet_csv(tmp_path, [ROW])
    text(root / "training.csv", AFFECTNET_HEADER, ROW, row)
    with pytest.raises(DatasetError, match=rf"training\.csv line 3: .*{message}"):
        faces(root)


def test_a_wrong_tree_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"one of: training\.csv .*train_set/ .*train/ .*; found 0"):
        faces(tmp_path)
    root = affectnet_csv(tmp_path / "csv", [ROW])
    (root / "images").mkdir()
    with pytest.raises(DatasetError, match=r"expects one of Manually_Annotated_Images, .*found 2"):
        faces(root)
    (root / "images").rmdir()
    (root / "validation.csv").unlink()
    with pytest.raises(DatasetError, match=r"expects .*validation\.csv: a row a picture"):
        faces(root)
    text(root / "training.csv", ROW)
    with pytest.raises(DatasetError, match=r"training\.csv line 1: expected the header 'subDirectory_filePath"):
        faces(root)
    (root / "train_set").mkdir()
    with pytest.raises(DatasetError, match="found 2 of them"):
        faces(root)


def test_a_wrong_npy_or_folder_tree_is_refused_too(tmp_path: Path) -> None:
    root = affectnet_npy(tmp_path / "npy", {1: ("1", "0", "0")})
    (root / "train_set/annotations/1_aro.npy").write_bytes(b"not an array")
    with pytest.raises(DatasetError, match=r"expects .*1_aro\.npy with one number"):
        faces(root)
    (root / "train_set/annotations/1_val.npy").unlink()
    with pytest.raises(DatasetError, match=r"expects .*1_val\.npy with one number"):
        faces(root)
    (root / "train_set/annotations/1_exp.npy").unlink()
    with pytest.raises(DatasetError, match=r"expects .*train_set/annotations with <id>_exp\.npy"):
        faces(root)
    picture(tmp_path / "train" / "happy" / "a.jpg")
    with pytest.raises(DatasetError, match=r"expects beside .*train one of val, valid, validation, test"):
        faces(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match=r"expects in .*val a folder for each expression"):
        faces(tmp_path)


def test_the_labelled_face_is_cut_out_of_its_picture(tmp_path: Path) -> None:
    """A black face of 40 x 40 in a white picture: a quarter more on every side, and no other thing, is what is left."""
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[100:140, 50:90] = 0
    root = affectnet_csv(tmp_path, ["1/a.jpg,50,100,40,40,,1,0,0"])
    picture(root / "Manually_Annotated_Images/1/a.jpg", pixels)
    frame = AffectNet().load(faces(root)[0])
    # 60 x 60, enlarged 4 times, and a border of 80.
    assert (frame.shape, frame.dtype) == ((400, 400, 3), np.uint8)
    assert frame[200, 200].max() < 20
    assert frame[90, 90].min() > 235


def test_a_large_face_keeps_its_size(tmp_path: Path) -> None:
    root = affectnet_csv(tmp_path, ["1/a.jpg,0,100,300,200,,1,0,0"])
    picture(root / "Manually_Annotated_Images/1/a.jpg", np.full((400, 300, 3), 70, np.uint8))
    frame = AffectNet().load(faces(root)[0])
    # Cut from x 0 to 300 and y 50 to 350, and a border of 100.
    assert frame.shape == (500, 500, 3)
    assert (frame == 70).all()


def test_a_missing_picture_and_a_box_outside_are_named(tmp_path: Path) -> None:
    root = affectnet_csv(tmp_path, ["1/a.jpg,500,100,40,40,,1,0,0"])
    (face, other) = faces(root)
    with pytest.raises(DatasetError, match="lies outside a picture of 40 x 40"):
        AffectNet().load(face)
    other.path.unlink()
    with pytest.raises(DatasetError, match=r"missing or unreadable: .*v\.jpg"):
        AffectNet().load(other)


@given(
    st.integers(0, 10),
    st.one_of(st.just(-2.0), st.floats(-1, 1)),
    st.one_of(st.just(-2.0), st.floats(-1, 1)),
)
def test_what_a_row_says_is_kept_or_masked(expression: int, valence: float, arousal: float) -> None:
    cells = ["a.jpg", "0", "0", "9", "9", "", str(expression), repr(valence), repr(arousal)]
    face = _csv_face(cells, Path("pictures"), training=False, place="line")
    names = "neutral happiness sadness surprise fear disgust anger contempt".split()
    assert label(face) == (names[expression] if expression < 8 else None)
    assert set(face.votes) <= {0, 1}
    annotated = -2 not in (valence, arousal)
    assert face.valence_arousal == ((valence, arousal) if annotated else None)
