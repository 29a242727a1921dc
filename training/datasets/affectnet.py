"""AffectNet (Mollahosseini et al., 2017): faces of the web, with one annotator's expression and valence-arousal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from model_core.affect import LABEL_SETS
from model_core.faces.geometry import Box, Frame
from training.datasets.pictures import around, read_picture, surrounded
from training.datasets.raw import DatasetError, RawFace, training_split

EXPRESSIONS: Mapping[float, str] = {
    0: "neutral",
    1: "happiness",
    2: "sadness",
    3: "surprise",
    4: "fear",
    5: "disgust",
    6: "anger",
    7: "contempt",
}
"""What the numbers of the CSV and npy forms mean, as published with the data set."""

UNLABELLED = (8, 9, 10)
"""None, uncertain, no face: not expressions."""

INVALID = -2.0
"""Stands for valence or arousal that was not annotated."""

FOLDERS: Mapping[str, str] = {
    "neutral": "neutral",
    "happy": "happiness",
    "happiness": "happiness",
    "sad": "sadness",
    "sadness": "sadness",
    "surprise": "surprise",
    "surprised": "surprise",
    "fear": "fear",
    "fearful": "fear",
    "disgust": "disgust",
    "disgusted": "disgust",
    "anger": "anger",
    "angry": "anger",
    "contempt": "contempt",
}
"""Names of the folder form, in lower case -> label. Folders named by a number are refused: it does not say which."""

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
"""First line of the CSV form's files; it says the order of what follows."""

_LISTS = ("", "Manually_Annotated_file_lists")
_PICTURES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "images")
_PUBLISHED = ("val", "valid", "validation", "test")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_FORMS = (
    "training.csv and validation.csv (CSV form), train_set/ and val_set/ (npy form), "
    f"or train/ and one of {', '.join(_PUBLISHED)} (folders by name)"
)


class AffectNet:
    """Three forms, told apart by what the root holds.

    CSV: `training.csv`, `validation.csv` (here or in `Manually_Annotated_file_lists/`) with pictures by their
    `subDirectory_filePath` in `Manually_Annotated_Images/` or `images/`. npy: `train_set/`, `val_set/`, each with
    `annotations/<id>_{exp,val,aro}.npy` and `images/<id>.jpg`. Folders: `train/happy/x.jpg`, and `val/` or `test/`
    alike; they have no valence-arousal.

    AffectNet publishes no test set; results are reported on its validation set, which is the split `test` here. A tenth
    of the training pictures are `validation`. Who is on a picture is unknown, so splits are not by person.

    The CSV's face box says which face is meant and is cut around; its 68 landmarks are not read: faces are found and
    aligned as the service does it.
    """

    label_set = "affectnet8"
    annotators = 1

    def faces(self, root: Path) -> Iterator[RawFace]:
        """See DatasetReader."""
        lists = [root / name for name in _LISTS if (root / name / "training.csv").exists()]
        forms = [_csv_faces(root, folder) for folder in lists]
        forms += [_npy_faces(root)] if (root / "train_set").is_dir() else []
        forms += [_folder_faces(root)] if (root / "train").is_dir() else []
        if len(forms) != 1:
            raise DatasetError(f"AffectNet expects in {root} one of: {_FORMS}; found {len(forms)} of them")
        yield from forms[0]

    def load(self, face: RawFace) -> Frame:
        """uint8 [H, W, 3]: cut around the face box where there is one, enlarged if small, with a replicated border.

        Raises DatasetError where the picture is missing or the box outside of it.
        """
        picture = read_picture(face.path)
        return surrounded(around(picture, face.box) if face.box else picture)


def _csv_faces(root: Path, lists: Path) -> Iterator[RawFace]:
    folders = [root / name for name in _PICTURES if (root / name).is_dir()]
    if len(folders) != 1:
        raise DatasetError(f"AffectNet expects one of {', '.join(_PICTURES)} in {root}, found {len(folders)}")
    for file, training in (("training.csv", True), ("validation.csv", False)):
        table = lists / file
        if not table.is_file():
            raise DatasetError(f"AffectNet expects {table}: a row a picture")
        with table.open(encoding="utf-8", errors="replace") as lines:
            if next(lines, "").strip() != HEADER:
                raise DatasetError(f"{table} line 1: expected the header {HEADER!r}")
            for number, line in enumerate(lines, start=2):
                yield _csv_face(line.strip().split(","), folders[0], training, f"{table} line {number}")


def _csv_face(cells: list[str], pictures: Path, training: bool, place: str) -> RawFace:
    try:
        name, x, y, width, height, _landmarks, *labels = cells
        expression, valence, arousal = map(float, labels)
        box = Box(*map(int, (x, y, width, height)))
    except ValueError:
        raise DatasetError(f"{place}: expected {HEADER}") from None
    return RawFace(
        name,
        training_split(name) if training else "test",
        pictures / name,
        _votes(expression, place),
        _valence_arousal(valence, arousal, place),
        box if box.width > 0 and box.height > 0 else None,
    )


def _npy_faces(root: Path) -> Iterator[RawFace]:
    for folder, training in (("train_set", True), ("val_set", False)):
        annotations = root / folder / "annotations"
        found = sorted(annotations.glob("*_exp.npy"), key=lambda path: (len(path.name), path.name))  # 2 before 10
        if not found:
            raise DatasetError(f"AffectNet expects {annotations} with <id>_exp.npy, <id>_val.npy, <id>_aro.npy")
        for path in found:
            number = path.name.removesuffix("_exp.npy")
            picture = root / folder / "images" / f"{number}.jpg"
            name = picture.relative_to(root).as_posix()
            valence, arousal = (_number(annotations / f"{number}_{kind}.npy") for kind in ("val", "aro"))
            votes, place = _votes(_number(path), str(path)), str(annotations / number)
            split = training_split(name) if training else "test"
            yield RawFace(name, split, picture, votes, _valence_arousal(valence, arousal, place))


def _number(path: Path) -> float:
    """The one number of a file; the data set writes numbers as text."""
    try:
        return float(np.load(path, allow_pickle=False).item())
    except (OSError, EOFError, ValueError):
        raise DatasetError(f"AffectNet expects {path} with one number") from None


def _folder_faces(root: Path) -> Iterator[RawFace]:
    published = [name for name in _PUBLISHED if (root / name).is_dir()]
    if len(published) != 1:
        raise DatasetError(f"AffectNet expects beside {root / 'train'} one of {', '.join(_PUBLISHED)}")
    for split in ("train", *published):
        folders = sorted(path for path in (root / split).iterdir() if path.is_dir())
        if not folders:
            raise DatasetError(f"AffectNet expects in {root / split} a folder for each expression")
        for folder in folders:
            label = FOLDERS.get(folder.name.lower())
            if label is None:
                raise DatasetError(f"{folder}: expected a folder named by its expression: {', '.join(FOLDERS)}")
            votes = tuple(float(known == label) for known in LABEL_SETS[AffectNet.label_set])
            for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES):
                name = path.relative_to(root).as_posix()
                yield RawFace(name, training_split(name) if split == "train" else "test", path, votes)


def _votes(expression: float, place: str) -> tuple[float, ...]:
    if expression not in (*EXPRESSIONS, *UNLABELLED):
        raise DatasetError(f"{place}: expected an expression from 0 to 10, found {expression:g}")
    return tuple(float(known == EXPRESSIONS.get(expression)) for known in LABEL_SETS[AffectNet.label_set])


def _valence_arousal(valence: float, arousal: float, place: str) -> tuple[float, float] | None:
    if not all(value == INVALID or abs(value) <= 1 for value in (valence, arousal)):
        raise DatasetError(f"{place}: expected valence and arousal in [-1, 1] or -2, found {valence:g} and {arousal:g}")
    return None if INVALID in (valence, arousal) else (valence, arousal)
