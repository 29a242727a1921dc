"""Twins: pictures of one split that show the same photograph as a picture of another split.

FER2013 was gathered by web searches that found many photographs more than once, cut, scaled or marked a little
differently. A network that was trained on one of them and is measured on the other is asked what it was told.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.datasets.raw import SPLITS, Split

TWIN_CORRELATION = 0.92
"""Correlation from which on two pictures count as twins, unless it is stated otherwise.

Of FER+ pairs with a training picture on one side, 14 were looked at in each of several bands: all 56 between 0.91 and
0.98 show the same photograph, 11 of 14 between 0.89 and 0.91, and about half below that.
"""

_BLOCK = 1024
_ROUNDING = 1e-5


def twins_in_later_splits(
    pictures: NDArray[np.uint8], splits: Sequence[Split], least_correlation: float = TWIN_CORRELATION
) -> NDArray[np.bool_]:
    """Return which of the pictures, uint8 [N, H, W], have a twin in a later split, bool [N].

    The splits come in the order of SPLITS: training pictures are compared with validation and test pictures, validation
    pictures with test pictures. What is left after leaving them out has no twins across splits.
    """
    return _twins(pictures, np.array([SPLITS.index(split) for split in splits]), least_correlation)


def twins_in_earlier_splits(
    pictures: NDArray[np.uint8], splits: Sequence[Split], least_correlation: float = TWIN_CORRELATION
) -> NDArray[np.bool_]:
    """Return which of the pictures, uint8 [N, H, W], have a twin in an earlier split of SPLITS, bool [N].

    What a network achieves on them after it was trained on the earlier splits is too good.
    """
    return _twins(pictures, np.array([-SPLITS.index(split) for split in splits]), least_correlation)


def _twins(pictures: NDArray[np.uint8], position: NDArray[np.int64], least_correlation: float) -> NDArray[np.bool_]:
    """Return which of the pictures have a twin at a higher position, int64 [N]."""
    twins = np.zeros(len(pictures), dtype=bool)
    for own_position in np.unique(position):
        own = position == own_position
        others = pictures[position > own_position]
        twins[own] = _largest_correlations(pictures[own], others) >= least_correlation - _ROUNDING
    return twins


def _largest_correlations(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the largest correlation of each picture with one of the others or its mirror image, float32 [N]."""
    if not len(others):
        return np.full(len(pictures), -1, dtype=np.float32)
    both = np.concatenate([_normalised(others), _normalised(others[:, :, ::-1])])
    blocks = [
        (_normalised(pictures[start : start + _BLOCK]) @ both.T).max(axis=1)
        for start in range(0, len(pictures), _BLOCK)
    ]
    return np.concatenate([np.zeros(0, dtype=np.float32), *blocks])


def _normalised(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pictures as rows of mean 0 and length 1, float32 [N, H * W]; a picture without contrast is 0."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
