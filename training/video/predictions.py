"""Predictions for whole sequences beside their references, pooled over frames and grouped by video."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_core.affect import Task
from training.datasets import sequences

Floats = NDArray[np.floating]


class ProtocolError(ValueError):
    """Predictions, thresholds or a result cannot be used; the message says why."""


class HasVideo(Protocol):
    """Anything that belongs to a video."""

    @property
    def video(self) -> str:
        """The video's name."""
        ...


@dataclass(frozen=True, eq=False)
class SequencePredictions:
    """A system's predictions for the T frames of a sequence; a task that it does not cover is None.

    Values in frames without a reference are ignored. Raises ProtocolError for another shape.
    """

    sequence: sequences.Sequence
    valence_arousal: Floats | None = None
    """float [T, 2]."""
    expression: Floats | None = None
    """float [T, C]: scores in the order of the reader's labels; the class with the highest is predicted."""
    action_units: Floats | None = None
    """float [T, 12] in [0, 1]: probabilities."""

    def __post_init__(self) -> None:
        for task in ("valence_arousal", "expression", "action_units"):
            values, wanted = getattr(self, task), getattr(self.sequence.targets, task).shape
            if values is not None and values.shape != wanted:
                raise ProtocolError(f"{self.sequence.name}: {task} is {values.shape}, its targets {wanted}")

    @property
    def video(self) -> str:
        """The video's name, which both of its persons share."""
        return self.sequence.video


@dataclass(frozen=True)
class Pooled:
    """The N frames with a reference for a task of W numbers, grouped into V videos."""

    values: NDArray[np.float64]
    """float64 [N, W]: predictions; 0 where the mask is False."""
    targets: NDArray[np.float64]
    """float64 [N, W]."""
    mask: NDArray[np.bool_]
    """bool [N, W]: True where a number counts."""
    starts: NDArray[np.int64]
    """int64 [V + 1]: the frames of video v are those in [starts[v], starts[v + 1]); every video has at least one."""

    @property
    def videos(self) -> int:
        """The number of videos, V."""
        return len(self.starts) - 1

    def frames(self, videos: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the frames of `videos`, int64 [M] in [0, V), which may repeat."""
        return np.concatenate([np.arange(self.starts[v], self.starts[v + 1]) for v in videos])


def pool(predictions: Sequence[SequencePredictions], task: Task) -> Pooled | None:
    """Return all frames with a reference for `task`, in the order of their sequences' names.

    None where there are no such frames, or no prediction covers the task. Raises ProtocolError where only some
    predictions cover it, where a sequence occurs twice, and where a value that counts is not finite, or is not a
    probability although it is that of an action unit.
    """
    covered = [each for each in predictions if getattr(each, task) is not None]
    if covered and len(covered) < len(predictions):
        raise ProtocolError(f"{len(covered)} of {len(predictions)} sequences have predictions of {task}")
    covered.sort(key=lambda each: (each.video, each.sequence.person))
    names = [each.sequence.name for each in covered]
    for name, after in pairwise(names):
        if name == after:
            raise ProtocolError(f"the sequence {name} stands twice")
    parts = [(each.video, *_counted(each, task)) for each in covered]
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return None
    values, targets, mask = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    videos = np.repeat([part[0] for part in parts], [len(part[1]) for part in parts])
    starts = np.flatnonzero(np.concatenate(([True], videos[1:] != videos[:-1])))
    return Pooled(values, targets, mask, np.append(starts, len(videos)))


def _counted(
    predicted: SequencePredictions, task: Task
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return (values, targets, mask) of the frames in which anything counts."""
    targets = getattr(predicted.sequence.targets, task)
    mask = getattr(predicted.sequence.targets, f"{task}_mask") > 0
    mask = np.broadcast_to(mask if mask.ndim == 2 else mask[:, None], targets.shape)
    values = np.where(mask, getattr(predicted, task), 0).astype(np.float64)
    low, high = (0, 1) if task == "action_units" else (-np.inf, np.inf)
    if not np.isfinite(values).all() or (values < low).any() or (values > high).any():
        what = "not probabilities" if task == "action_units" else "not finite"
        raise ProtocolError(f"{predicted.sequence.name}: some values of {task} are {what}")
    rows = mask.any(axis=1)
    return values[rows], targets[rows].astype(np.float64), mask[rows]


def pictured_only(predicted: SequencePredictions) -> SequencePredictions:
    """Mask the references of frames without a picture, for predictions that are made for visible faces only."""
    sequence = predicted.sequence
    seen = np.array([frame is not None for frame in sequence.frames], dtype=np.float32)
    targets = replace(
        sequence.targets,
        valence_arousal_mask=sequence.targets.valence_arousal_mask * seen,
        expression_mask=sequence.targets.expression_mask * seen,
        action_units_mask=sequence.targets.action_units_mask * seen[:, None],
    )
    return replace(predicted, sequence=replace(sequence, targets=targets))


OfVideo = TypeVar("OfVideo", bound=HasVideo)


def split_by_video(items: Iterable[OfVideo], share: float, seed: int) -> tuple[list[OfVideo], list[OfVideo]]:
    """Return (held out, the rest) in the order given, with about `share` of the videos, at least one, held out.

    `items` are sequences or predictions. All items of a video are on the same side, which depends only on the names of
    the videos and on `seed`. Raises ProtocolError for fewer than two videos or a share outside (0, 1).
    """
    items = list(items)
    videos = sorted({item.video for item in items})
    if len(videos) < 2 or not 0 < share < 1:
        raise ProtocolError(f"a share of {share} of {len(videos)} videos leaves nothing on one side")
    count = min(max(1, round(share * len(videos))), len(videos) - 1)
    chosen = np.random.default_rng(seed).permutation(len(videos))[:count]
    held_out = {videos[i] for i in chosen}
    return [item for item in items if item.video in held_out], [item for item in items if item.video not in held_out]
