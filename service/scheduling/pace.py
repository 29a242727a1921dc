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


_MEMORY_S = 4.0
_MEMORY_UNITS = 20
"""Seconds of work, and units, after which a pace has forgotten two thirds of what came before: whichever is longer."""

_MOST = 4.0
"""Limit of the time that is counted for what is under way, as a multiple of what the pace lets expect."""


class Pace:
    """Seconds of work for each unit that is completed, as a mean of late; 0 before the first one.

    The time is that in which anything is under way, so it does not matter how many units wait meanwhile, nor whether
    they are completed one by one or in batches. Time that lasted long for another reason, because the process had been
    stopped, say, does not turn away those who come after it; a pace that has really changed is learned by a few units.
    """

    def __init__(self) -> None:
        self._since_s = 0.0
        """Work since a unit was completed."""
        self._work_s = 0.0
        self._units = 0.0

    @property
    def value(self) -> float:
        """Seconds for each unit."""
        return self._work_s / self._units if self._units else 0.0

    def passed(self, work_s: float) -> None:
        """Take in seconds in which something was under way."""
        self._since_s += work_s

    def completed(self, units: int, under_way: int) -> None:
        """Take in the completion of some of the units that are under way."""
        spent_s = min(self._since_s, _MOST * self.value * under_way) if self.value else self._since_s
        kept = math.exp(-min(spent_s / _MEMORY_S, units / _MEMORY_UNITS))
        self._since_s = 0.0
        self._work_s = kept * self._work_s + spent_s
        self._units = kept * self._units + units
