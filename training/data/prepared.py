"""A prepared data set on disk: aligned crops and their targets, ready to train on.

A folder with `crops.npy` (memory-mapped), `faces.npz` (targets) and `prepared.json` (how it was made). It is written to
a temporary name and moved into place when whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model_core.affect import LABEL_SETS
from training.datasets.raw import SPLITS, DatasetError, Split

FORMAT = 1


@dataclass(frozen=True)
class PreparedInfo:
    """How a prepared set was made; training copies it into the bundle."""

    dataset: str
    label_set: str
    alignment: str
    size: int
    detector: str
    min_confidence: float
    derived: bool
    """Whether action units, and valence-arousal unless it is annotated, were derived by the teacher."""
    annotators: int = 10
    """The most votes a face can have."""
    annotated: bool = False
    """Whether people annotated valence-arousal; then none of it is derived."""
    format: int = FORMAT

    @property
    def labels(self) -> tuple[str, ...]:
        """Expression labels in the order of the targets' columns."""
        return LABEL_SETS[self.label_set]


@dataclass(frozen=True)
class PreparedFaces:
    """N records in the reader's order; a record whose face was not found keeps its targets, with a black crop.

    crops: uint8 [N, S, S, 3] RGB. found: bool [N]. votes: float32 [N, C], raw counts. action_units: float32 [N, 12]
    count only where `derived` is True, bool [N]; valence_arousal: float32 [N, 2] where `with_valence_arousal` is, which
    is `annotated`, bool [N], in sets whose valence-arousal people annotated. names, splits: str [N]. blendshapes:
    float32 [N, 52], and landmarks: float32 [N, 146, 2], are what the teacher read, where `derived`; None without one.
    """

    info: PreparedInfo
    crops: NDArray[np.uint8]
    names: NDArray[np.str_]
    splits: NDArray[np.str_]
    found: NDArray[np.bool_]
    votes: NDArray[np.float32]
    derived: NDArray[np.bool_]
    action_units: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]
    annotated: NDArray[np.bool_] | None = None
    blendshapes: NDArray[np.float32] | None = None
    landmarks: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, split: Split) -> NDArray[np.int64]:
        """The records of a split, found or not."""
        return np.flatnonzero(self.splits == split)

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """bool [N]: where valence_arousal counts."""
        return self.derived if self.annotated is None else self.annotated

    @property
    def majority(self) -> NDArray[np.int64]:
        """int64 [N]: the label with more than half of all possible votes, or -1. For FER+ this is its majority set."""
        return np.where(self.votes.max(axis=1) > self.info.annotators / 2, self.votes.argmax(axis=1), -1)


def distributions(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Votes [N, C] as distributions; rows without votes are 0."""
    total = votes.sum(axis=1, keepdims=True)
    return (votes / np.where(total > 0, total, 1)).astype(np.float32)


def create_crops(folder: Path, count: int, size: int) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """A new memory-mapped array for `count` crops in `folder`."""
    shape = (count, size, size, 3)
    return np.lib.format.open_memmap(folder / "crops.npy", mode="w+", dtype=np.uint8, shape=shape)


def write_targets(folder: Path, info: PreparedInfo, arrays: Mapping[str, NDArray[Any] | None]) -> None:
    """Write everything but the crops; `arrays` holds PreparedFaces' other fields by name, None for one it lacks."""
    present = {name: values for name, values in arrays.items() if values is not None}
    np.savez_compressed(folder / "faces.npz", **present)  # type: ignore[arg-type]
    # FER+ sets are written as ever, so that the same faces give the same bytes.
    later = {"annotators": PreparedInfo.annotators, "annotated": PreparedInfo.annotated}
    document = {name: value for name, value in asdict(info).items() if name not in later or value != later[name]}
    (folder / "prepared.json").write_text(json.dumps(document, indent=2) + "\n")


def load_prepared(folder: Path) -> PreparedFaces:
    """Open a prepared set; crops stay on disk until used. Raises DatasetError where it is missing or unknown."""
    try:
        info = PreparedInfo(**json.loads((folder / "prepared.json").read_text()))
        crops = np.load(folder / "crops.npy", mmap_mode="r")
        with (folder / "faces.npz").open("rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        faces = PreparedFaces(info=info, crops=crops, **arrays)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        hint = "make one with `python -m training.prepare`"
        raise DatasetError(f"{folder} is not a prepared data set ({type(error).__name__}); {hint}") from error
    known = info.format == FORMAT and info.annotated == (faces.annotated is not None)
    if not known or len(crops) != len(faces) or not set(faces.splits) <= set(SPLITS):
        raise DatasetError(f"{folder} was prepared by another version; prepare it again")
    return faces
