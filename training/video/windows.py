"""Runs of consecutive frames, and the sequences cut from them, which never cross a gap."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def segments(present: NDArray[np.bool_], frame_rate: float, max_gap_s: float) -> list[Indices]:
    """Split a video's present frames into runs without a gap of more than `max_gap_s` seconds.

    present: bool [T], True where a frame has a picture. The runs are in order, and hold each present frame once.
    """
    indices = np.flatnonzero(present)
    # The small addend is there since most frame periods have no exact binary representation.
    longest = max(1.0, np.floor(max_gap_s * frame_rate + 1e-6))
    breaks = np.flatnonzero(np.diff(indices) > longest) + 1
    return [part for part in np.split(indices, breaks) if len(part)]


def windows(parts: list[Indices], length: int, stride: int) -> list[Indices]:
    """Cut runs into sequences of `length` frames that start `stride` apart; the last of a run may be shorter.

    With a stride of at most the length, every frame is in at least one sequence.
    """
    cut = []
    for part in parts:
        starts = range(0, max(len(part) - length, 0) + stride, stride)
        cut += [part[start : start + length] for start in starts if start < len(part)]
    return cut
