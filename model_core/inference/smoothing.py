"""Smoothing of one face's outputs over time. It works on logits, before calibration and thresholds (PAPER section 5).

Timestamps are the source's, so that uneven and sparse frames are smoothed by time and not by count.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIME_CONSTANT_S = 0.15
"""Of the causal form: how long a change takes to arrive by 63 %, hence about its lag."""

WIDTH_S = 0.15
"""Of the offline form: standard deviation of its Gaussian window."""


class CausalSmoother:
    """Exponential smoothing of one track by the past alone; its weight follows the time since the last value."""

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        if not time_constant_s > 0:
            raise ValueError("the time constant must be positive")
        self._time_constant_s = time_constant_s
        self._last: tuple[float, Floats] | None = None

    def update(self, values: Floats, time_s: float) -> Floats:
        """Outputs [D] at a time -> smoothed outputs [D]; times must not decrease."""
        if self._last is not None:
            last_s, last = self._last
            weight = -math.expm1(-(time_s - last_s) / self._time_constant_s)
            values = last + weight * (values - last)
        self._last = time_s, values
        return values


def smooth_causal(values: Floats, times_s: Floats) -> Floats:
    """A whole track's outputs [T, D] at times [T] that do not decrease, as a CausalSmoother gives them one by one."""
    smoother = CausalSmoother()
    return np.stack([smoother.update(row, float(time_s)) for row, time_s in zip(values, times_s, strict=True)])


def smooth_offline(values: Floats, times_s: Floats, width_s: float = WIDTH_S) -> Floats:
    """Outputs [T, D] at increasing times [T] -> their Gaussian averages [T, D] over past and future, without lag."""
    if not width_s > 0:
        raise ValueError("the width must be positive")
    first = np.searchsorted(times_s, times_s - 3 * width_s)
    last = np.searchsorted(times_s, times_s + 3 * width_s, side="right")
    smoothed = np.empty_like(values)
    for i, (start, end) in enumerate(zip(first, last, strict=True)):
        weights = np.exp(-0.5 * ((times_s[start:end] - times_s[i]) / width_s) ** 2)
        smoothed[i] = weights @ values[start:end] / weights.sum()
    return smoothed
