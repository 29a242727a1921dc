"""Batches of sequences: windows of tracks, padded to one length, in an order that depends on seed and epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_core.affect import Task
from training.video.config import WindowConfig
from training.video.tracks import Track
from training.video.windows import Indices, segments, windows


@dataclass(frozen=True)
class SequenceBatch:
    """A batch of sequences of one task. Frames beyond the end of a sequence are 0, and masked."""

    features: Tensor
    """float32 [B, L, D]."""
    target: Tensor
    """float32 [B, L, K]."""
    mask: Tensor
    """float32 [B, L], for action units [B, L, 12]: 1 where a target counts."""


@dataclass(frozen=True)
class TrainingWindows:
    """All training sequences of some tracks. A frame without a label of the task is included, but masked."""

    tracks: Sequence[Track]
    places: Sequence[tuple[int, Indices]]
    """The index of the track and its frames, for each sequence."""
    task: Task
    length: int

    def batches(self, size: int, seed: tuple[int, int]) -> Iterator[SequenceBatch]:
        """Return an epoch of shuffled batches; `seed` is the run's seed and the epoch."""
        order = np.random.default_rng(seed).permutation(len(self.places))
        for start in range(0, len(order), size):
            yield self._batch([self.places[i] for i in order[start : start + size]])

    def _batch(self, places: Sequence[tuple[int, Indices]]) -> SequenceBatch:
        columns = [self._columns(self.tracks[index], frames) for index, frames in places]
        return SequenceBatch(*(torch.from_numpy(np.stack(column)) for column in zip(*columns, strict=True)))

    def _columns(self, track: Track, frames: Indices) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        targets = track.sequence.targets
        columns = []
        for values in (track.features, getattr(targets, self.task), getattr(targets, f"{self.task}_mask")):
            padded = np.zeros((self.length, *values.shape[1:]), dtype=np.float32)
            padded[: len(frames)] = values[frames]
            columns.append(padded)
        return columns


def training_windows(tracks: Sequence[Track], task: Task, config: WindowConfig, frame_rate: float) -> TrainingWindows:
    """Cut tracks into sequences; those without any label of the task are left out."""
    places = []
    for index, track in enumerate(tracks):
        mask = getattr(track.sequence.targets, f"{task}_mask")
        for frames in windows(segments(track.present, frame_rate, config.max_gap_s), config.length, config.stride):
            if mask[frames].any():
                places.append((index, frames))
    return TrainingWindows(tracks, places, task, config.length)
