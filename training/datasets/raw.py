"""The records that every reader of a data set yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Frame

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DatasetError(Exception):
    """The files of a data set are not as expected; the message says what was expected where."""


@dataclass(frozen=True)
class RawFace:
    """One labelled picture.

    votes: the annotators' counts in the order of the reader's labels; all 0: unlabelled. valence_arousal: as people
    annotated them, each in [-1, 1]; None: not annotated. box: where the labelled face is, if the files say so.
    action_units: known intensities of the twelve units in the order of ACTION_UNITS, each in [0, 1]; None: not known.
    """

    name: str
    split: Split
    path: Path
    votes: tuple[float, ...]
    valence_arousal: tuple[float, float] | None = None
    box: Box | None = None
    action_units: tuple[float, ...] | None = None


def training_split(name: str) -> Split:
    """`validation` for a tenth of all names, else `train`: for sets whose files hold no validation split apart.

    It depends on the name only (CRC-32 divisible by ten), so pictures that are removed or added move no other.
    """
    return "validation" if crc32(name.encode()) % 10 == 0 else "train"


class DatasetReader(Protocol):
    """Reads one data set's files."""

    label_set: str
    """A key of `affect.LABEL_SETS`."""

    annotators: int
    """The most votes a face can have; 1 where the files give one label a face."""

    def faces(self, root: Path) -> Iterator[RawFace]:
        """All records under `root`, in the order of its files. Raises DatasetError where the tree is wrong."""
        ...

    def load(self, face: RawFace) -> Frame:
        """The picture, prepared so that a face detector can work on it."""
        ...


@runtime_checkable
class OverlappingReader(DatasetReader, Protocol):
    """A reader of a data set whose splits share photographs, which have to be found by their pixels."""

    def picture(self, face: RawFace) -> NDArray[np.uint8]:
        """The picture as its file holds it, grey, uint8 [H, W], of the same size for the whole set."""
        ...
