"""The numbers that a caller may give, and one sentence for those that are out of range."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

LONGEST_S = 1e9
"""Seconds; the system waits for no longer time."""


@dataclass(frozen=True)
class Range:
    """The finite numbers from the lowest to the highest one, both included unless it says otherwise."""

    lowest: float = -math.inf
    highest: float = math.inf
    is_open: bool = False
    """Whether the lowest number itself is left out."""
    is_whole: bool = False
    """Whether only whole numbers are meant."""

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a finite number"
        lowest = "" if self.lowest == -math.inf else f"{'above' if self.is_open else 'of at least'} {self.lowest:g}"
        highest = "" if self.highest == math.inf else f"{'of ' * (not lowest)}at most {self.highest:g}"
        return " ".join(filter(None, (kind, " and ".join(filter(None, (lowest, highest))))))

    def __contains__(self, value: Any) -> bool:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        is_high_enough = number > self.lowest if self.is_open else number >= self.lowest
        is_of_kind = number.is_integer() if self.is_whole else math.isfinite(number)
        return is_of_kind and is_high_enough and number <= self.highest

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError for a value out of range."""
        if value not in self:
            raise ValueError(f"{name}: must be {self}, and is {value!r}")


POSITIVE = Range(0, is_open=True)
NOT_NEGATIVE = Range(0)
FINITE = Range()
PROBABILITY = Range(0, 1)
COUNT = Range(1, is_whole=True)
WAIT_S = Range(0, LONGEST_S)
TIMEOUT_S = Range(0, LONGEST_S, is_open=True)
SAMPLING_HZ = Range(0, 10_000, is_open=True)

OPTIONS = MappingProxyType(
    {
        "max_faces": COUNT,
        "min_confidence": PROBABILITY,
        "fps": POSITIVE,
        "start_s": NOT_NEGATIVE,
        "end_s": POSITIVE,
        "baseline_s": POSITIVE,
    }
)
"""The parameters of requests that are numbers. The service has further limits, which it tells where they are passed."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter of a request that is out of range; those that are None are left out."""
    for name, allowed in OPTIONS.items():
        if options.get(name) is not None:
            allowed.check(name, options[name])
