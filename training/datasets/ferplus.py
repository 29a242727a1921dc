"""FER+ (Barsoum et al., 2016): FER2013's 48 x 48 grey faces with ten votes each."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.affect import LABEL_SETS
from model_core.faces.geometry import Frame
from training.datasets.raw import DatasetError, RawFace, Split

_FOLDERS: Mapping[str, Split] = {"FER2013Train": "train", "FER2013Valid": "validation", "FER2013Test": "test"}
_UPSCALED_PX = 192
_BORDER_PX = 64


class FerPlus:
    """Layout: `FER2013{Train,Valid,Test}/<image>` and a `label.csv` beside the images of each folder.

    A row: file, box, votes for the eight expressions in FER+ order, votes for `unknown` and for `not a face`.
    """

    label_set = "ferplus"
    annotators = 10

    def faces(self, root: Path) -> Iterator[RawFace]:
        """See DatasetReader."""
        for folder, split in _FOLDERS.items():
            table = root / folder / "label.csv"
            if not table.is_file():
                raise DatasetError(f"FER+ expects {table}: a row an image with its votes")
            with table.open(newline="") as lines:
                for number, row in enumerate(csv.reader(lines), start=1):
                    yield _record(row, split, table, number)

    def picture(self, face: RawFace) -> NDArray[np.uint8]:
        """uint8 [48, 48]: the picture as its file holds it. Raises DatasetError where that cannot be read."""
        grey = cv2.imread(str(face.path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise DatasetError(f"FER+ image is missing or unreadable: {face.path}")
        return np.asarray(grey, dtype=np.uint8)

    def load(self, face: RawFace) -> Frame:
        """uint8 [320, 320, 3]: enlarged four times, with a replicated border.

        The faces fill their 48 pixels to the edge, where detectors expect some surroundings.
        """
        large = cv2.resize(self.picture(face), (_UPSCALED_PX, _UPSCALED_PX), interpolation=cv2.INTER_CUBIC)
        border = (_BORDER_PX,) * 4
        framed = cv2.copyMakeBorder(large, *border, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.cvtColor(framed, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _record(row: list[str], split: Split, table: Path, number: int) -> RawFace:
    count = len(LABEL_SETS["ferplus"])
    try:
        if len(row) != 2 + count + 2 or not row[0]:
            raise ValueError
        counts = [float(vote) for vote in row[2:]]
        if not all(votes >= 0 and votes.is_integer() for votes in counts):
            raise ValueError
    except ValueError:
        raise DatasetError(f"{table} line {number}: expected file, box and {count + 2} vote counts") from None
    return RawFace(row[0], split, table.parent / row[0], tuple(counts[:count]))
