"""BP4D (Zhang et al., 2014): 41 people in eight tasks each, with the occurrence of action units in some frames."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_core.affect import ACTION_UNITS
from training.datasets.raw import SPLITS, DatasetError
from training.datasets.sequences import Sequence, numbered_frames, split_subjects, unit_targets

UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24")
"""The units that every file must have a column for; of AU25 and AU26 it takes what is there."""

UNKNOWN = "9"
"""Marks a unit that could not be coded in a frame."""

_LABELS = "AUCoding/AU_OCC"
_FILE = re.compile(r"([FM]\d{3})_(T\d)\.csv")
_NUMBER = re.compile(r"[1-9]\d{0,5}")


@dataclass(frozen=True)
class Bp4d:
    """Layout: `AUCoding/AU_OCC/F001_T1.csv`; frames as `frames/F001/T1/00001.jpg`.

    A file's first line numbers the units of its columns, after the column of frames; then comes a line a coded frame
    with 0, 1, or 9 for unknown. The frame is the number of the picture, counted from 1. Unknown units, frames that were
    not coded, valence-arousal and expressions are masked. There is no official split: see `split_subjects` for `folds`
    and `fold`; the default is the first of three.
    """

    folds: int = 3
    fold: int = 0

    label_set = "abaw"

    def __post_init__(self) -> None:
        split_subjects((), self.folds, self.fold)

    def sequences(self, root: Path) -> Iterator[Sequence]:
        """See SequenceReader. Files are read as their sequence is asked for."""
        labels, frames = root / _LABELS, root / "frames"
        paths = sorted(labels.glob("*.csv"))
        matches = [_FILE.fullmatch(path.name) for path in paths]
        if not paths or not all(matches):
            raise DatasetError(f"BP4D expects {labels} with files like F001_T1.csv, and no other .csv")
        if not frames.is_dir():
            raise DatasetError(f"BP4D expects frames in {frames}, as F001/T1/00001.jpg; videos are not read")
        named = [(path, match[1], match[2]) for path, match in zip(paths, matches, strict=True) if match]
        splits = split_subjects((subject for _, subject, _ in named), self.folds, self.fold)
        for path, subject, task in sorted(named, key=lambda entry: SPLITS.index(splits[entry[1]])):
            targets = unit_targets(_units(path), self.label_set)
            pictures = numbered_frames(frames / subject / task, len(targets.action_units))
            yield Sequence(path.stem, "", splits[subject], pictures, targets)


def _units(path: Path) -> dict[str, dict[int, bool]]:
    """Unit -> frame number -> present, of what is known."""
    lines = [line.split(",") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    header = [f"AU{cell.strip()}" for cell in lines[0][1:]] if lines else []
    missing = [unit for unit in UNITS if header.count(unit) != 1]
    if missing:
        raise DatasetError(f"{path} line 1: expected the units' numbers, each once; without {', '.join(missing)}")
    if len(lines) == 1:
        raise DatasetError(f"{path}: expected a line a coded frame after the header")
    columns = {unit: header.index(unit) + 1 for unit in ACTION_UNITS if unit in header}
    units: dict[str, dict[int, bool]] = {unit: {} for unit in columns}
    frames: set[int] = set()
    for number, cells in enumerate(lines[1:], start=2):
        values = [cell.strip() for cell in cells]
        frame = int(values[0]) if _NUMBER.fullmatch(values[0]) else 0
        known = {unit: values[column] for unit, column in columns.items()} if len(values) == len(lines[0]) else {}
        if not frame or frame in frames or not known or not set(known.values()) <= {"0", "1", UNKNOWN}:
            raise DatasetError(f"{path} line {number}: expected a new frame, then 0, 1 or 9 for each unit")
        frames.add(frame)
        for unit, value in known.items():
            if value != UNKNOWN:
                units[unit][frame] = value == "1"
    return units
