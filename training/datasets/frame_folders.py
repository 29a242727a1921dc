"""Videos without labels, such as a challenge's test set: a folder of numbered frames for each, and nothing else."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.datasets.raw import DatasetError
from training.datasets.sequences import Sequence, SequenceTargets, frame_numbers, numbered_frames

Row = tuple[str, int]
"""Name of a video's folder, and the number of a frame from 1 on."""

_ROW = re.compile(r"(?P<name>[^,/]+)/(?P<number>\d+)\.jpg(,.*)?")


def wanted_rows(root: Path, listed: Path | None, header: str) -> list[Row]:
    """Return the frames that a submission must have, in the order in which it must have them.

    listed: the challenge's example file, which begins with `header` and has a line a frame; or a file with a video's
    name a line; or None for all folders of `root`. Of a video that is merely named, all frames up to its last picture
    are wanted. Raises DatasetError.
    """
    if listed is None:
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        if not names:
            raise DatasetError(f"{root} has no folders of frames")
        return list(_all_frames(root, names))
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{listed} cannot be read ({error})") from error
    numbered = [(number, text) for number, line in enumerate(lines, start=1) if (text := line.strip())]
    if not numbered:
        raise DatasetError(f"{listed} names no video")
    first = numbered[0][1]
    if not first.startswith("image_location"):
        return list(_all_frames(root, [name for _, name in numbered]))
    if first.replace(" ", "") != header:
        raise DatasetError(f"{listed} line 1: expected {header!r}, found {first!r}")
    return [_row(listed, number, text) for number, text in numbered[1:]]


def unlabelled_sequences(root: Path, rows: Iterable[Row]) -> list[Sequence]:
    """Return a sequence for each video of `rows`, as long as its highest frame number, with every target masked.

    A video whose folder is there and empty has no pictures. Raises DatasetError for a folder that is missing.
    """
    counts: dict[str, int] = {}
    for name, number in rows:
        counts[name] = max(number, counts.get(name, 0))
    return [_sequence(root / name, count) for name, count in counts.items()]


def _all_frames(root: Path, names: Iterable[str]) -> Iterator[Row]:
    for name in names:
        yield from ((name, number) for number in range(1, max(frame_numbers(root / name)) + 1))


def _row(listed: Path, line_number: int, line: str) -> Row:
    match = _ROW.fullmatch(line)
    if match is None or int(match["number"]) < 1:
        raise DatasetError(f"{listed} line {line_number}: expected a frame such as video/00001.jpg, found {line!r}")
    return match["name"], int(match["number"])


def _sequence(folder: Path, count: int) -> Sequence:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing: the video is to be answered, and has no folder of frames")
    empty = not any(folder.iterdir())
    frames = (None,) * count if empty else numbered_frames(folder, count)
    one, two, units = (np.zeros((count, *shape), np.float32) for shape in ((), (2,), (len(ACTION_UNITS),)))
    expression = np.zeros((count, len(LABEL_SETS["abaw"])), np.float32)
    return Sequence(folder.name, "", "test", frames, SequenceTargets(two, one, expression, one, units, units))
