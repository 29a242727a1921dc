"""Small data sets in the layout of the real ones, generated: numbers that a person can check, and grey pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

GREY = np.full((40, 40, 3), 70, np.uint8)

AFFECTNET_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)


def picture(path: Path, pixels: NDArray[np.uint8] = GREY) -> Path:
    """`pixels`, uint8 [H, W, 3] BGR, as a file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def text(path: Path, *lines: str) -> Path:
    """The lines as a file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def affectnet_csv(root: Path, training: Sequence[str], validation: Sequence[str] = ("1/v.jpg,0,0,9,9,,0,0,0",)) -> Path:
    """The CSV form, with a picture for each row."""
    for name, rows in (("training.csv", training), ("validation.csv", validation)):
        text(root / name, AFFECTNET_HEADER, *rows)
        for row in rows:
            picture(root / "Manually_Annotated_Images" / row.split(",")[0])
    return root


def affectnet_npy(root: Path, training: Mapping[int, tuple[str, str, str]]) -> Path:
    """The npy form: id -> expression, valence, arousal, as text like the real ones; and one validation picture."""
    for folder, faces in (("train_set", training), ("val_set", {5: ("0", "0", "0")})):
        (root / folder / "annotations").mkdir(parents=True)
        for number, values in faces.items():
            for kind, value in zip(("exp", "val", "aro"), values, strict=True):
                np.save(root / folder / "annotations" / f"{number}_{kind}.npy", np.array(value))
            picture(root / folder / "images" / f"{number}.jpg")
    return root


def rafdb(root: Path, *lines: str) -> Path:
    """The list's lines, with an aligned picture for each."""
    text(root / "EmoLabel" / "list_patition_label.txt", *lines)
    (root / "Image" / "aligned").mkdir(parents=True)
    for line in lines:
        picture(root / "Image" / "aligned" / f"{line.split('.')[0]}_aligned.jpg")
    return root


def disfa(root: Path, intensities: Mapping[str, Mapping[int, Sequence[int]]], frames: int = 3) -> Path:
    """Person -> unit -> intensities of frames 1, 2, ...; the units of DISFA that are not named have zeros."""
    for person, given in intensities.items():
        for unit in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26):
            lines = [f"{i},{value}" for i, value in enumerate(given.get(unit, (0,) * frames), start=1)]
            text(root / "ActionUnit_Labels" / person / f"{person}_au{unit}.txt", *lines)
        for number in range(1, frames + 1):
            (root / "frames" / person).mkdir(parents=True, exist_ok=True)
            (root / "frames" / person / f"{number:05d}.jpg").touch()
    return root


BP4D_UNITS = (1, 2, 4, 5, 6, 7, 10, 12, 15, 23, 24)


def bp4d(root: Path, *videos: str, rows: Sequence[str] = ("1" + ",0" * 11,), units: Sequence[int] = BP4D_UNITS) -> Path:
    """Videos such as F001_T1, each with these lines after the header, and pictures of frames 1 and 3."""
    for video in videos:
        text(root / "AUCoding" / "AU_OCC" / f"{video}.csv", ",".join(map(str, (0, *units))), *rows)
        for number in (1, 3):
            (root / "frames" / video.replace("_", "/")).mkdir(parents=True, exist_ok=True)
            (root / "frames" / video.replace("_", "/") / f"{number:04d}.jpg").touch()
    return root
