"""Predictions as files in the challenge's format (arXiv 2503.12260, section 3; ABAW)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from training.datasets.affwild2 import HEADERS
from training.video.predictions import ProtocolError, SequencePredictions

HALF: Mapping[str, float] = dict.fromkeys(ACTION_UNITS, 0.5)


def write_submission(
    path: Path,
    task: Task,
    predictions: Sequence[SequencePredictions],
    thresholds: Mapping[str, float] = HALF,
    every_frame: bool = False,
) -> None:
    """Write one task's file: `image_location,<columns of HEADERS>`, then `<name>/00001.jpg,<values>` for each frame.

    Rows are the frames that have a picture; with `every_frame`, the others as well, by the name that theirs would have.
    Values are as in the annotations: valence and arousal in [-1, 1] with six decimals; the position of the expression
    among the header's; 0 or 1 for each unit, by `thresholds`. Raises FileExistsError where `path` exists, and
    ProtocolError where predictions are missing or out of range; then nothing is written.
    """
    rows = [f"image_location,{HEADERS[task]}"]
    for predicted in predictions:
        rows += _rows(predicted, task, np.array([thresholds[name] for name in ACTION_UNITS]), every_frame)
    with path.open("x", encoding="ascii", newline="\n") as file:
        file.write("\n".join(rows) + "\n")


def _rows(
    predicted: SequencePredictions, task: Task, thresholds: NDArray[np.float64], every_frame: bool
) -> Iterator[str]:
    values = getattr(predicted, task)
    name, frames = predicted.sequence.name, predicted.sequence.frames
    if values is None:
        raise ProtocolError(f"{name} has no predictions of {task}")
    for number, (frame, row) in enumerate(zip(frames, values, strict=True), start=1):
        if frame is None and not every_frame:
            continue
        image = f"{number:05d}.jpg"
        if not np.isfinite(row).all() or (task == "valence_arousal" and (np.abs(row) > 1).any()):
            raise ProtocolError(f"{name}/{image}: {task} is {row.tolist()}")
        if task == "valence_arousal":
            cells = [f"{value:.6f}" for value in row]
        elif task == "expression":
            cells = [str(row.argmax())]
        else:
            cells = [str(int(active)) for active in row >= thresholds]
        yield ",".join((f"{name}/{image}", *cells))
