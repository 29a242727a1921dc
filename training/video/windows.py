"""Frames that follow each other, and the sequences cut from them: never across two videos, never across a gap."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def segments(present: NDArray[np.bool_], frame_rate: float, max_gap_s: float) -> list[Indices]:
    """Runs of a video's present frames, none of which follows the one before it by more than `max_gap_s` seconds.

    present: [T], whether frame k has a picture. The runs are in order, and hold each present frame once.
    """
    indices = np.flatnonzero(present)
    longest = max(1.0, np.floor(max_gap_s * frame_rate + 1e-6))  # floats do not hold all periods exactly
    breaks = np.flatnonzero(np.diff(indices) > longest) + 1
    return [part for part in np.split(indices, breaks) if len(part)]


def windows(parts: list[Indices], length: int, stride: int) -> list[Indices]:
    """Sequences of at most `length` frames, their starts `stride` apart within each run; a run's last may be shorter.

    With a stride of at most the length, every frame is in at least one.
    """
    cut = []
    for part in parts:
        starts = range(0, max(len(part) - length, 0) + stride, stride)
        cut += [part[start : start + length] for start in starts if start < len(part)]
    return cut
