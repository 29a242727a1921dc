"""What every data set reader yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from model_core.faces import Frame

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DatasetError(Exception):
    """The files of a data set are not as expected; the message says what was expected where."""


@dataclass(frozen=True)
class RawFace:
    """One labelled picture. `votes`: the annotators' counts in the order of the reader's labels; all 0: unlabelled."""

    name: str
    split: Split
    path: Path
    votes: tuple[float, ...]


class DatasetReader(Protocol):
    """Reads one data set's files."""

    label_set: str
    """A key of `affect.LABEL_SETS`."""

    def faces(self, root: Path) -> Iterator[RawFace]:
        """All records under `root`, in the order of its files. Raises DatasetError where the tree is wrong."""
        ...

    def load(self, face: RawFace) -> Frame:
        """The picture, prepared so that a face detector can work on it."""
        ...
