"""Runs of consecutive frames in which something is so: a face is missing, a label is, a hand covers the mouth."""

import numpy as np
from numpy.typing import NDArray


def spans(frames: int, share: float, longest: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool [frames], True in runs of 1 to `longest` frames that together cover about `share`, in [0, 1), of them.

    Runs may meet, and a run may be cut by the end; few frames may have none.
    """
    starts = rng.random(frames) < share / ((1 + longest) / 2)
    lengths = rng.integers(1, longest + 1, frames)
    covered = np.zeros(frames, dtype=bool)
    for start in np.flatnonzero(starts):
        covered[start : start + lengths[start]] = True
    return covered
