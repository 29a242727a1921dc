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
