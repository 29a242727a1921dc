"""What a batcher is told, whom it tells, and what it raises."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class BatcherClosed(Exception):
    """The batcher takes no new items."""


class WorkerStalled(Exception):
    """A batch has not ended within its time; nothing runs until it does."""


class BatchTooLarge(Exception):
    """Raised by `run`: there was no memory for so many items at once."""


class WrongResultCount(Exception):
    """`run` broke its contract: not one result for each item. The whole batch fails, for none can be told apart."""


class BatchObserver(Protocol):
    """Told about batches, on the event loop."""

    def batch(self, size: int, wait_s: Sequence[float], run_s: float) -> None:
        """After a batch: `wait_s`, seconds each of its `size` items queued; `run_s`, seconds it ran with retries."""
        ...

    def halved(self, size: int) -> None:
        """A run of `size` items failed and is tried again in two halves."""
        ...


class NoObserver:
    """Is told, and does nothing."""

    def batch(self, size: int, wait_s: Sequence[float], run_s: float) -> None:
        """See BatchObserver."""

    def halved(self, size: int) -> None:
        """See BatchObserver."""


@dataclass(frozen=True)
class BatchLimits:
    """max_items: most items of a batch. max_bulk: up to how many bulk items may fill a batch; one always may.

    stall_s: seconds in which a batch must end. bulk_s: seconds that bulk items may take of a pass, by the pace so far.
    """

    max_items: int
    max_bulk: int
    stall_s: float
    bulk_s: float = math.inf

    def __post_init__(self) -> None:
        if not (self.max_items > 0 and self.max_bulk > 0 and self.stall_s > 0 and self.bulk_s > 0):
            raise ValueError("the limits of a batch must be positive")
