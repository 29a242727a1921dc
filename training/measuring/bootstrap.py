"""Percentile bootstrap intervals of measures of a sample (Efron, 1979)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

COVERAGE_PERCENT = 95.0


class UpwardBiased(float):
    """A measure that resampling raises, such as a sum of absolute gaps, often past the value itself.

    The rise, which is the mean of the resamples less the value, is subtracted from its interval, which stays above 0.
    """


class WithoutInterval(float):
    """A measure that is shown for comparison only and gets no interval."""


def intervals(
    measures: Callable[[NDArray[np.int64]], Mapping[str, Any]],
    size: int,
    resamples: int,
    seed: int = 0,
    clusters: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Return 95 % intervals [low, high] of the floats that `measures` returns, at the same nested keys.

    `measures` is called with the rows of each resample, int64 [size] in [0, size) with repetition, so all measures of a
    resample are of the same rows. With `clusters`, [size], whole clusters are drawn instead, such as all pictures of a
    person, since those resemble each other; a resample may then have more or fewer rows. A measure that is absent or
    NaN in any resample has no interval, nor has one that is WithoutInterval; that of one that is UpwardBiased is
    corrected.
    """
    rng = np.random.default_rng(seed)
    members = None if clusters is None else [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    draws: dict[tuple[str, ...], list[float]] = {}
    for _ in range(resamples):
        if members is None:
            rows = rng.integers(0, size, size)
        else:
            rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        for path, value in _floats(measures(rows)):
            draws.setdefault(path, []).append(value)
    tail = (100 - COVERAGE_PERCENT) / 2
    tree: dict[str, Any] = {}
    for path, value in _floats(measures(np.arange(size))):
        values = draws.get(path, [])
        if values and len(values) == resamples and np.isfinite(values).all():
            limits = np.percentile(values, [tail, 100 - tail])
            if isinstance(value, UpwardBiased):
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
        elif isinstance(value, float) and not isinstance(value, WithoutInterval):
            yield (*path, key), value
