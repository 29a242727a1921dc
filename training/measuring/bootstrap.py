"""Percentile bootstrap intervals of measures of a sample (Efron 1979)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

COVERAGE_PERCENT = 95.0


BIASED = {"ece"}
"""Sums of absolute gaps, which chance raises and resampling raises once more, often past the value itself.

From their intervals that rise is taken off: the mean of the resamples less the value. They stay above 0.
"""


def intervals(
    measures: Callable[[NDArray[np.int64]], Mapping[str, Any]], size: int, resamples: int, seed: int = 0
) -> dict[str, Any]:
    """95 % intervals of the floats that `measures` returns, at the same nested keys as [low, high].

    `measures` gets the rows of a resample, int64 [size] in [0, size) with repetition: all measures of a resample are of
    the same rows. A measure that a resample leaves undefined, absent or NaN, has no interval; see BIASED.
    """
    rng = np.random.default_rng(seed)
    draws: dict[tuple[str, ...], list[float]] = {}
    for _ in range(resamples):
        for path, value in _floats(measures(rng.integers(0, size, size))):
            draws.setdefault(path, []).append(value)
    tail = (100 - COVERAGE_PERCENT) / 2
    tree: dict[str, Any] = {}
    for path, value in _floats(measures(np.arange(size))):
        values = draws.get(path, [])
        if values and len(values) == resamples and np.isfinite(values).all():
            limits = np.percentile(values, [tail, 100 - tail])
            if path[-1] in BIASED:
                limits = np.maximum(0, limits - np.mean(values) + value)
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = limits.tolist()
    return tree


def _floats(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _floats(value, (*path, key))
        elif isinstance(value, float):
            yield (*path, key), value
