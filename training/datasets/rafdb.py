"""RAF-DB (Li et al., 2017), the basic expressions: 100 x 100 aligned faces with one of seven labels each."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_core.affect import LABEL_SETS
from model_core.faces.geometry import Frame
from training.datasets.pictures import read_picture, surrounded
from training.datasets.raw import DatasetError, RawFace, training_split

EXPRESSIONS: Mapping[str, str] = {
    "1": "surprise",
    "2": "fear",
    "3": "disgust",
    "4": "happiness",
    "5": "sadness",
    "6": "anger",
    "7": "neutral",
}
"""What the numbers of the list mean, as published with the data set."""

_LIST = "EmoLabel/list_patition_label.txt"  # spelt as in the data set
_PICTURES = "Image/aligned"
_LINE = re.compile(r"((train|test)_\d+)\.jpg\s+([1-7])")


class RafDb:
    """Layout: `EmoLabel/list_patition_label.txt` with lines like `train_00001.jpg 5`, and the pictures beside it as
    `Image/aligned/train_00001_aligned.jpg`.

    The label is what about forty annotators agreed on; their counts are not in this tree, so it stands as one vote.
    RAF-DB has training and test pictures: a tenth of the training ones are the `validation` split. The aligned faces
    are read, and found and aligned anew like any picture, so that training sees what serving will.
    """

    label_set = "rafdb"
    annotators = 1

    def faces(self, root: Path) -> Iterator[RawFace]:
        """See DatasetReader."""
        table, pictures = root / _LIST, root / _PICTURES
        if not table.is_file() or not pictures.is_dir():
            raise DatasetError(f"RAF-DB expects {_LIST} and {_PICTURES}/ in {root}, its folder `basic`")
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            match = _LINE.fullmatch(line.strip())
            if not match:
                raise DatasetError(f"{table} line {number}: expected `train_00001.jpg 5` or the like, found {line!r}")
            stem, part, label = match.groups()
            name = f"{stem}.jpg"
            split = training_split(name) if part == "train" else "test"
            votes = tuple(float(known == EXPRESSIONS[label]) for known in LABEL_SETS[self.label_set])
            yield RawFace(name, split, pictures / f"{stem}_aligned.jpg", votes)

    def load(self, face: RawFace) -> Frame:
        """uint8 [H, W, 3]: enlarged, with a replicated border. Raises DatasetError where the picture is missing."""
        return surrounded(read_picture(face.path))
