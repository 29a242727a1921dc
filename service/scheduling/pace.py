"""Averages that forget, from which the pace of work is learned."""

import math

_MEMORY = 0.9
"""Share of the average that survives one further value."""


class MovingAverage:
    """An average that forgets: 0 before its first value; a value counts as at most `most` times the average.

    With `most`, one call that lasted long, because the process had been stopped in it, say, does not turn away those
    who come after it; a pace that has really changed is learned by a few.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._known = False
        self.value = 0.0

    def note(self, value: float, weight: int = 1) -> None:
        """Take in a value as if it had come `weight` times."""
        if not self._known:
            self._known = True
            self.value = value
            return
        bounded = min(value, self._most * self.value) if self.value else value
        memory = _MEMORY**weight
        self.value = memory * self.value + (1 - memory) * bounded


class Pace:
    """The seconds that a turn takes, and how far single turns are from that.

    Both are moving averages, as TCP keeps them of its round trips (Jacobson, Congestion Avoidance and Control, 1988).
    """

    def __init__(self) -> None:
        self._mean_s = MovingAverage(most=4)
        self._deviation_s = MovingAverage(most=4)

    @property
    def mean_s(self) -> float:
        """The average; 0 before the first turn."""
        return self._mean_s.value

    @property
    def upper_s(self) -> float:
        """Seconds that about 95 of 100 turns stay below: the average plus twice the mean deviation.

        Of a normal distribution that is 1.6 standard deviations above the mean.
        """
        return self._mean_s.value + 2 * self._deviation_s.value

    def note(self, turn_s: float) -> None:
        """Take in a turn's seconds."""
        if self._mean_s.value:
            self._deviation_s.note(abs(turn_s - self._mean_s.value))
        self._mean_s.note(turn_s)
