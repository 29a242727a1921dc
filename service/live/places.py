"""A bounded number of places, of which each live connection takes one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Limit, Overloaded

RETRY_S = 5.0
"""Seconds after which a client that found no place may come again: connections end at any time."""


class Places:
    """Counts those who are there, and lets in no more than there is room for."""

    def __init__(self, most: Limit, on_change: Callable[[int], None] = lambda taken: None) -> None:
        """`on_change` is called with the number of places that are taken."""
        self._most = most
        self._on_change = on_change
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place for the length of the block. Raises Overloaded where none is left."""
        if self._taken >= self._most["value"]:
            detail = f"there are {self._taken} live connections, and may be no more"
            raise Overloaded(detail, retry_after_s=RETRY_S, limit=self._most)
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        self._taken += by
        self._on_change(self._taken)
