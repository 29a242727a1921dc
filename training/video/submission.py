"""Predictions as files in the challenge's format (arXiv 2503.12260, section 3; ABAW)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from training.datasets.affwild2 import HEADERS
from training.datasets.frame_folders import Row
from training.video.predictions import ProtocolError, SequencePredictions

HALF: Mapping[str, float] = dict.fromkeys(ACTION_UNITS, 0.5)


def header(task: Task) -> str:
    """Return the first line of a task's file."""
    return f"image_location,{HEADERS[task]}"


def write_submission(
    path: Path, task: Task, predictions: Sequence[SequencePredictions], thresholds: Mapping[str, float] = HALF
) -> None:
    """Write one task's file: `image_location,<columns of HEADERS>`, then a row for each frame that has a picture.

    Values are as in the annotations: valence and arousal in [-1, 1] with six decimals; the position of the expression
    among the header's; 0 or 1 for each unit, by `thresholds`. Raises FileExistsError where `path` exists, and
    ProtocolError where predictions are missing or out of range; then nothing is written.
    """
    rows: list[str] = []
    for predicted in predictions:
        pictured = [i for i, frame in enumerate(predicted.sequence.frames, start=1) if frame is not None]
        wanted = [(predicted.sequence.name, number) for number in pictured]
        rows += _rows(wanted, {predicted.sequence.name: _values(predicted, task)}, task, thresholds)
    _write(path, task, rows)


def write_whole_submission(
    path: Path,
    task: Task,
    predictions: Sequence[SequencePredictions],
    wanted: Iterable[Row],
    thresholds: Mapping[str, float] = HALF,
) -> None:
    """Write one task's file with exactly the `wanted` frames, in their order, whether they have a picture or not.

    A frame without a picture repeats the answer of the last one before it that has one, or else of the first after it.
    A video without any is answered by zeros: valence and arousal 0, the first expression, no action unit. Values and
    errors are those of `write_submission`; ProtocolError also for a frame of a video without predictions.
    """
    values = {each.sequence.name: _filled(_values(each, task), each) for each in predictions}
    _write(path, task, list(_rows(wanted, values, task, thresholds)))


def _values(predicted: SequencePredictions, task: Task) -> NDArray[np.floating]:
    values: NDArray[np.floating] | None = getattr(predicted, task)
    if values is None:
        raise ProtocolError(f"{predicted.sequence.name} has no predictions of {task}")
    return values


def _filled(values: NDArray[np.floating], predicted: SequencePredictions) -> NDArray[np.floating]:
    """Values [T, K], those of frames without a picture taken from the last frame before that has one, or the first."""
    seen = np.array([frame is not None for frame in predicted.sequence.frames], dtype=np.bool_)
    if not seen.any():
        return np.zeros_like(values)
    source = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    return np.asarray(values[np.where(source < 0, seen.argmax(), source)])


def _rows(
    wanted: Iterable[Row], values: Mapping[str, NDArray[np.floating]], task: Task, thresholds: Mapping[str, float]
) -> Iterator[str]:
    limits = np.array([thresholds[name] for name in ACTION_UNITS])
    for name, number in wanted:
        image = f"{name}/{number:05d}.jpg"
        if name not in values or number > len(values[name]):
            raise ProtocolError(f"{image} has no prediction")
        row = values[name][number - 1]
        if not np.isfinite(row).all() or (task == "valence_arousal" and (np.abs(row) > 1).any()):
            raise ProtocolError(f"{image}: {task} is {row.tolist()}")
        yield ",".join((image, *_cells(row, task, limits)))


def _cells(row: NDArray[np.floating], task: Task, limits: NDArray[np.float64]) -> list[str]:
    if task == "valence_arousal":
        return [f"{value:.6f}" for value in row]
    if task == "expression":
        return [str(row.argmax())]
    return [str(int(active)) for active in row >= limits]


def _write(path: Path, task: Task, rows: Sequence[str]) -> None:
    with path.open("x", encoding="ascii", newline="\n") as file:
        file.write("\n".join([header(task), *rows]) + "\n")
