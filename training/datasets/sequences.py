"""Sequences, which every reader of video data yields: frames and masked targets in time order."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.datasets.raw import DatasetError, Split

FloatArray: TypeAlias = npt.NDArray[np.float32]
Person: TypeAlias = Literal["", "left", "right"]
"""Which person of the video; empty: the only one, or the main one."""

_FRAME = re.compile(r"(\d+)\.(jpg|png)")


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
        """Return the name of its files: the video, then an underscore and the person if one is named."""
        return f"{self.video}_{self.person}" if self.person else self.video


class SequenceReader(Protocol):
    """Reads one video data set's files."""

    label_set: str
    """A key of `affect.LABEL_SETS`."""

    def sequences(self, root: Path) -> Iterator[Sequence]:
        """All sequences under `root`, by split and name. Raises DatasetError where the tree is wrong."""
        ...


def numbered_frames(folder: Path, count: int) -> tuple[Path | None, ...]:
    """The pictures of frames 1 to `count`, named by their number (`00001.jpg`); None where there is none.

    Raises as `frame_numbers` does.
    """
    frames = frame_numbers(folder)
    return tuple(frames.get(number) for number in range(1, count + 1))


def frame_numbers(folder: Path) -> dict[int, Path]:
    """The pictures of a folder by the numbers of their frames, which are from 1 on.

    Raises DatasetError for a folder without such pictures, and where 0 or a number given twice makes them ambiguous.
    """
    matches = [(path, _FRAME.fullmatch(path.name)) for path in folder.iterdir()] if folder.is_dir() else []
    numbered = [(int(match[1]), path) for path, match in matches if match]
    frames = dict(numbered)
    if not frames or 0 in frames or len(frames) < len(numbered):
        raise DatasetError(f"{folder}: expected frames named from 00001.jpg on, each number once")
    return frames


def unit_targets(units: Mapping[str, Mapping[int, bool]], label_set: str) -> SequenceTargets:
    """Targets of a set that knows action units only: unit -> frame number from 1 on -> present. All else is masked.

    They reach to the last frame that any unit has a value for.
    """
    count = max((number for values in units.values() for number in values), default=0)
    present, mask = (np.zeros((count, len(ACTION_UNITS)), np.float32) for _ in range(2))
    for column, name in enumerate(ACTION_UNITS):
        values = units.get(name, {})
        rows = np.fromiter(values, np.int64, len(values)) - 1
        present[rows, column] = np.fromiter(values.values(), np.float32, len(values))
        mask[rows, column] = 1
    return SequenceTargets(
        valence_arousal=np.zeros((count, 2), np.float32),
        valence_arousal_mask=np.zeros(count, np.float32),
        expression=np.zeros((count, len(LABEL_SETS[label_set])), np.float32),
        expression_mask=np.zeros(count, np.float32),
        action_units=present,
        action_units_mask=mask,
    )


def split_subjects(subjects: Iterable[str], folds: int, fold: int) -> dict[str, Split]:
    """A split for each subject, by their place i (from 0 on) in the order of their names: no one is in two splits.

    Those with i % folds == fold are `test`; of the others, every fourth is `validation`, the rest `train`. Raises
    DatasetError where there is no such fold.
    """
    if not 0 <= fold < folds or folds < 2:
        raise DatasetError(f"expected two folds or more and a fold from 0 on below their number, not {fold} of {folds}")
    ordered = sorted(set(subjects))
    others = [subject for i, subject in enumerate(ordered) if i % folds != fold]
    validation = others[3::4]
    return {
        subject: "validation" if subject in validation else "train" if subject in others else "test"
        for subject in ordered
    }
