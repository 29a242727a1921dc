"""Values that each thread makes for itself, for networks that keep state during a call."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerThread(threading.local, Generic[T]):
    """A value that each thread makes for itself once."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Take the factory of the value."""
        # threading.local calls this again, with the same arguments, in each further thread.
        self.value = make()
