"""What every reader of video data yields: frames and masked targets in time order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from training.datasets.raw import Split

FloatArray: TypeAlias = npt.NDArray[np.float32]
Person: TypeAlias = Literal["", "left", "right"]
"""Which person of the video; empty: the only one, or the main one."""


@dataclass(frozen=True, eq=False)
class SequenceTargets:
    """The terms of `affect.AffectTarget` for T frames, all float32. Masks are 0 or 1; a masked entry is 0.

    valence_arousal: [T, 2] in [-1, 1] with mask [T]; expression: [T, C], one-hot in the order of the reader's labels,
    with mask [T]; action_units: [T, 12] of 0 or 1 with mask [T, 12].
    """

    valence_arousal: FloatArray
    valence_arousal_mask: FloatArray
    expression: FloatArray
    expression_mask: FloatArray
    action_units: FloatArray
    action_units_mask: FloatArray


@dataclass(frozen=True, eq=False)
class Sequence:
    """One person in one video. `frames`: T paths, frame k + 1 of the video at index k, None where it has no crop."""

    video: str
    person: Person
    split: Split
    frames: tuple[Path | None, ...]
    targets: SequenceTargets

    @property
    def name(self) -> str:
        """What its files are called: the video, and the person after an underscore where one is named."""
        return f"{self.video}_{self.person}" if self.person else self.video


class SequenceReader(Protocol):
    """Reads one video data set's files."""

    label_set: str
    """A key of `affect.LABEL_SETS`."""

    def sequences(self, root: Path) -> Iterator[Sequence]:
        """All sequences under `root`, by split and name. Raises DatasetError where the tree is wrong."""
        ...
