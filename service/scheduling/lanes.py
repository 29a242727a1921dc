"""A queue with two lanes, from which any entry may leave: what a worker pool and a batcher wait in."""

from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry")


class Lane(IntEnum):
    """Priority of work: `INTERACTIVE` for a person who waits for one answer, `BULK` for one of many parts."""

    INTERACTIVE = 0
    BULK = 1

    @property
    def label(self) -> str:
        """The lane's name in metrics: `interactive` or `bulk`."""
        return self.name.lower()


class LaneQueue(Generic[Key, Entry]):
    """Entries by key, in order of arrival within a lane; interactive ones leave first."""

    def __init__(self) -> None:
        # A dict keeps the order of arrival and lets any entry leave in O(1).
        self._lanes: dict[Lane, dict[Key, Entry]] = {lane: {} for lane in Lane}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def depth(self, lane: Lane) -> int:
        """Entries of one lane."""
        return len(self._lanes[lane])

    def push(self, lane: Lane, key: Key, entry: Entry) -> None:
        """Add an entry at the end of its lane."""
        self._lanes[lane][key] = entry

    def pop(self, lane: Lane) -> tuple[Key, Entry]:
        """Remove and return a lane's oldest entry; KeyError where it is empty."""
        entries = self._lanes[lane]
        if not entries:
            raise KeyError(lane)
        key = next(iter(entries))
        return key, entries.pop(key)

    def discard(self, key: Key) -> None:
        """Remove an entry, wherever it is, if it is still here."""
        for entries in self._lanes.values():
            entries.pop(key, None)
