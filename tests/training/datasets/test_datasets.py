from pathlib import Path

import cv2
import numpy as np
import pytest

from model_core.affect import LABEL_SETS
from tests.fakes import write_ferplus
from training.datasets import READERS, SEQUENCE_READERS, DatasetError, RawFace, build_reader, build_sequence_reader
from training.datasets.disfa import Disfa

GREY = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
TREE = [
    ("FER2013Train", "b.png", GREY, [1, 2, 3, 0, 0, 0, 0, 4, 0, 0]),
    ("FER2013Train", "a.png", GREY, [0, 10, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("FER2013Test", "c.png", GREY, [0, 0, 0, 0, 0, 0, 0, 0, 7, 3]),
]


def faces(root: Path) -> list[RawFace]:
    return list(build_reader("ferplus").faces(root))


def test_records_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    records = faces(write_ferplus(tmp_path / "ferplus", TREE))
    assert [(r.name, r.split) for r in records] == [("b.png", "train"), ("a.png", "train"), ("c.png", "test")]
    assert records[0].votes == (1, 2, 3, 0, 0, 0, 0, 4)
    assert records[2].votes == (0,) * 8
    assert records[2].path == tmp_path / "ferplus" / "FER2013Test" / "c.png"


def test_a_picture_is_enlarged_and_framed(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path / "ferplus", [("FER2013Train", "a.png", np.full((48, 48), 70, np.uint8), [1] * 10)])
    frame = build_reader("ferplus").load(faces(root)[0])
    assert (frame.shape, frame.dtype) == ((320, 320, 3), np.uint8)
    assert (frame == 70).all()


@pytest.mark.parametrize("missing", ["FER2013Train", "FER2013Valid", "FER2013Test"])
def test_a_missing_table_is_named(tmp_path: Path, missing: str) -> None:
    root = write_ferplus(tmp_path / "ferplus", TREE)
    (root / missing / "label.csv").unlink()
    with pytest.raises(DatasetError, match=rf"FER\+ expects .*{missing}/label\.csv: a row an image"):
        faces(root)


@pytest.mark.parametrize(
    "row",
    [
        "a.png,box,1,2,3",
        "a.png,box,1,2,3,4,5,6,7,many,9,10",
        "",
        "a" + ",1" * 12,
        ",box" + ",1" * 10,
        "a.png,box,nan" + ",1" * 9,
        "a.png,box,-1" + ",1" * 9,
        "a.png,box,1.5" + ",1" * 9,
        "a.png,box" + ",1" * 9 + ",x",
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str) -> None:
    root = write_ferplus(tmp_path / "ferplus", TREE)
    table = root / "FER2013Train" / "label.csv"
    table.write_text(table.read_text() + row + "\n")
    with pytest.raises(DatasetError, match=r"label\.csv line 3: expected file, box and 10 vote counts"):
        faces(root)


def test_a_picture_that_is_not_there_or_none(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path / "ferplus", TREE)
    reader, records = build_reader("ferplus"), faces(root)
    records[0].path.unlink()
    records[1].path.write_text("not a picture")
    for record in records[:2]:
        with pytest.raises(DatasetError, match=f"missing or unreadable: .*{record.name}"):
            reader.load(record)
    assert cv2.imread(str(records[2].path)) is not None


@pytest.mark.parametrize("name", READERS)
def test_every_reader_names_a_label_set(name: str) -> None:
    assert build_reader(name).label_set in LABEL_SETS
    assert build_reader(name).annotators >= 1


@pytest.mark.parametrize("name", SEQUENCE_READERS)
def test_every_reader_of_videos_names_a_label_set(name: str) -> None:
    assert build_sequence_reader(name).label_set in LABEL_SETS


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_an_empty_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=f"expects .*{tmp_path}"):
        list(build_reader(name).faces(tmp_path))


@pytest.mark.parametrize("name", SEQUENCE_READERS)
def test_every_reader_of_videos_refuses_an_empty_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=f"expects .*{tmp_path}"):
        list(build_sequence_reader(name).sequences(tmp_path))


def test_an_unknown_data_set_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match="unknown data set 'fer2014'; known: ferplus, affectnet, rafdb"):
        build_reader("fer2014")
    with pytest.raises(DatasetError, match="unknown data set 'ferplus'; known: affwild2, disfa, bp4d"):
        build_sequence_reader("ferplus")


def test_options_of_a_reader_are_checked() -> None:
    assert build_sequence_reader("disfa", present_from=3, fold=2) == Disfa(present_from=3, fold=2)
    with pytest.raises(DatasetError, match="disfa has no option level; it has: present_from, folds, fold"):
        build_sequence_reader("disfa", level=3)
    with pytest.raises(DatasetError, match="affwild2 has no option fold; it has: none"):
        build_sequence_reader("affwild2", fold=1)
    with pytest.raises(DatasetError, match="not 3 of 3"):
        build_sequence_reader("bp4d", fold=3)
