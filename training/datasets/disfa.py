"""DISFA (Mavadati et al., 2013): 27 people watching clips, with the intensity of twelve action units a frame."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.datasets.raw import SPLITS, DatasetError
from training.datasets.sequences import Sequence, numbered_frames, split_subjects, unit_targets

UNITS = ("AU1", "AU2", "AU4", "AU6", "AU12", "AU15", "AU25", "AU26")
"""The annotated units that are among `affect.ACTION_UNITS`; DISFA also has 5, 9, 17 and 20, which are not read."""

_LABELS = "ActionUnit_Labels"
_LINE = re.compile(r"\s*([1-9]\d{0,5})\s*,\s*([0-5])\s*")


@dataclass(frozen=True)
class Disfa:
    """Layout: `ActionUnit_Labels/SN001/SN001_au1.txt`, lines `frame,intensity`; frames as `frames/SN001/00001.jpg`.

    DISFA ships videos: extract every frame of the left camera's, counted from 1, whole or cropped to the face. A unit
    is present from intensity `present_from` (1 to 5) on. Units that DISFA lacks, valence-arousal and expressions are
    masked. There is no official split: see `split_subjects` for `folds` and `fold`; the default is the first of three.
    """

    present_from: int = 2
    folds: int = 3
    fold: int = 0

    label_set = "abaw"

    def __post_init__(self) -> None:
        if not 1 <= self.present_from <= 5:
            raise DatasetError(f"DISFA's intensities go from 0 to 5: present_from is 1 to 5, not {self.present_from}")
        split_subjects((), self.folds, self.fold)

    def sequences(self, root: Path) -> Iterator[Sequence]:
        """See SequenceReader. Files are read as their sequence is asked for."""
        labels, frames = root / _LABELS, root / "frames"
        subjects = sorted(path.name for path in labels.iterdir() if path.is_dir()) if labels.is_dir() else []
        if not subjects:
            raise DatasetError(f"DISFA expects {labels} with a folder a person: SN001/SN001_au1.txt and so on")
        if not frames.is_dir():
            raise DatasetError(f"DISFA expects extracted frames in {frames}, as SN001/00001.jpg; videos are not read")
        splits = split_subjects(subjects, self.folds, self.fold)
        for subject in sorted(subjects, key=lambda name: SPLITS.index(splits[name])):
            files = {unit: labels / subject / f"{subject}_au{unit.removeprefix('AU')}.txt" for unit in UNITS}
            targets = unit_targets({unit: self._present(path) for unit, path in files.items()}, self.label_set)
            pictures = numbered_frames(frames / subject, len(targets.action_units))
            yield Sequence(subject, "", splits[subject], pictures, targets)

    def _present(self, path: Path) -> dict[int, bool]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        if not lines:
            raise DatasetError(f"DISFA expects {path} with a line a frame")
        values: dict[int, bool] = {}
        for number, line in enumerate(lines, start=1):
            match = _LINE.fullmatch(line)
            if not match or int(match[1]) in values:
                raise DatasetError(f"{path} line {number}: expected a new frame and its intensity 0-5, found {line!r}")
            values[int(match[1])] = int(match[2]) >= self.present_from
        return values
