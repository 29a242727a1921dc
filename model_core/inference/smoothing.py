"""Smoothing of one face's raw outputs over time, before calibration and thresholds.

Windows and weights follow the source's timestamps, so that uneven and sparse frames are smoothed by time, not by count.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIME_CONSTANT_S = 0.15
"""Time in seconds after which the causal form has followed a step by 63 %, and so about its lag."""

WIDTH_S = 0.15
"""Standard deviation of the offline form's Gaussian window, in seconds."""

LOOKAHEAD_S = 3 * WIDTH_S
"""Extent of the offline form's window into the future, in seconds."""


class CausalSmoother:
    """Exponential smoothing of one track, from past values only; the weight follows the time since the last value."""

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        """Take the time constant in seconds. Raises ValueError unless it is positive."""
        if not time_constant_s > 0:
            raise ValueError("the time constant must be positive")
        self._time_constant_s = time_constant_s
        self._last: tuple[float, Floats] | None = None

    def update(self, values: Floats, time_s: float) -> Floats:
        """Return the smoothed outputs [D] for the outputs [D] at a time in seconds; times must not decrease."""
        if self._last is not None:
            last_s, last = self._last
            weight = -math.expm1(-(time_s - last_s) / self._time_constant_s)
            values = last + weight * (values - last)
        self._last = time_s, values
        return values


def smooth_causal(values: Floats, times_s: Floats) -> Floats:
    """Return a whole track's outputs [T, D] at times [T], smoothed by a CausalSmoother one after another.

    Times are in seconds and must not decrease.
    """
    smoother = CausalSmoother()
    return np.stack([smoother.update(row, float(time_s)) for row, time_s in zip(values, times_s, strict=True)])


def smooth_offline(values: Floats, times_s: Floats, width_s: float = WIDTH_S) -> Floats:
    """Return the Gaussian averages [T, D] over past and future of outputs [T, D] at increasing times [T] in seconds.

    The window is cut at three widths on either side. Raises ValueError unless the width is positive.
    """
    _check_width(width_s)
    first = np.searchsorted(times_s, times_s - 3 * width_s)
    last = np.searchsorted(times_s, times_s + 3 * width_s, side="right")
    smoothed = np.empty_like(values)
    for i, (start, end) in enumerate(zip(first, last, strict=True)):
        smoothed[i] = _gaussian_average(values[start:end], times_s[start:end], times_s[i], width_s)
    return smoothed


class OfflineSmoother:
    """Gaussian smoothing of one track, as a delay line: a value is smoothed once its future has been added.

    `smoothed(time_s)` equals `smooth_offline` of the whole track, bit by bit, as soon as every value up to
    `time_s + 3 * width_s` has been added (LOOKAHEAD_S for the default width). With `forget` the smoother holds no more
    than the values of a few widths::

        smoother.add(outputs, time_s)
        due_s = ...  # the oldest time that is at least LOOKAHEAD_S ago
        estimate = smoother.smoothed(due_s)
        smoother.forget(due_s)
    """

    def __init__(self, width_s: float = WIDTH_S) -> None:
        """Take the standard deviation of the window in seconds. Raises ValueError unless it is positive."""
        _check_width(width_s)
        self._width_s = width_s
        # Arrays with room to grow: a window may hold hundreds of values, and is read once for each of them.
        self._times_s: Floats = np.empty(8)
        self._values: Floats = np.empty((8, 0))
        self._start = 0
        self._end = 0
        self._complete_from_s = -math.inf

    def __len__(self) -> int:
        """Return the number of values that are held."""
        return self._end - self._start

    def add(self, values: Floats, time_s: float) -> None:
        """Add the outputs [D] at a time in seconds; times must not decrease."""
        if self._end == len(self._times_s) or not self._end:
            self._make_room(len(values))
        self._times_s[self._end] = time_s
        self._values[self._end] = values
        self._end += 1

    def smoothed(self, time_s: float) -> Floats:
        """Return the average [D] around a time over the values added within three widths before and after.

        Raises ValueError for a time at which nothing was added, or which `forget` has given up.
        """
        if time_s < self._complete_from_s:
            raise ValueError(f"the values around {time_s} s are forgotten")
        held_s = self._times_s[self._start : self._end]
        start = self._start + np.searchsorted(held_s, time_s - 3 * self._width_s)
        end = self._start + np.searchsorted(held_s, time_s + 3 * self._width_s, side="right")
        times_s = self._times_s[start:end]
        if time_s not in times_s:
            raise ValueError(f"no value was added at {time_s} s")
        return _gaussian_average(self._values[start:end], times_s, time_s, self._width_s)

    def forget(self, before_s: float) -> None:
        """Drop the values that are not needed to smooth at `before_s` or later."""
        self._complete_from_s = max(self._complete_from_s, before_s)
        held_s = self._times_s[self._start : self._end]
        self._start += int(np.searchsorted(held_s, self._complete_from_s - 3 * self._width_s))

    def _make_room(self, width: int) -> None:
        """Move what is held to the beginning of arrays twice as long as that."""
        held = slice(self._start, self._end)
        count = len(self)
        times_s = np.empty(max(8, 2 * count))
        values = np.empty((len(times_s), width))
        times_s[:count] = self._times_s[held]
        values[:count] = self._values[held] if count else 0.0
        self._times_s, self._values = times_s, values
        self._start, self._end = 0, count


def _check_width(width_s: float) -> None:
    if not width_s > 0:
        raise ValueError("the width must be positive")


def _gaussian_average(values: Floats, times_s: Floats, center_s: float, width_s: float) -> Floats:
    """Average the values [T, D] at times [T], weighted by a Gaussian around `center_s`: [D]."""
    weights = np.exp(-0.5 * ((times_s - center_s) / width_s) ** 2)
    average: Floats = weights @ values / weights.sum()
    return average
