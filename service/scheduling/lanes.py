"""A queue with two lanes, from which any entry may leave: what a worker pool and a batcher wait in."""

from collections import OrderedDict
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
    """Entries by key. Within a lane the requests that wait take turns, each with its entries in order of arrival.

    So between two entries of one request at most one of each other request leaves, however many that one has.
    """

    def __init__(self) -> None:
        # Ordered dicts keep the order of the turns and of arrival, and let any entry leave in O(1).
        self._lanes: dict[Lane, OrderedDict[Hashable, OrderedDict[Key, Entry]]] = {lane: OrderedDict() for lane in Lane}
        self._places: dict[Key, tuple[Lane, Hashable]] = {}
        self._depths = dict.fromkeys(Lane, 0)

    def __len__(self) -> int:
        return len(self._places)

    def depth(self, lane: Lane) -> int:
        """Entries of one lane."""
        return self._depths[lane]

    def requests(self, lane: Lane) -> int:
        """Requests that have entries in a lane."""
        return len(self._lanes[lane])

    def push(self, lane: Lane, key: Key, entry: Entry, request: Hashable | None = None) -> None:
        """Add an entry of a request, by default a request of its own; a new request has its turn after all others."""
        owner = key if request is None else request
        self._lanes[lane].setdefault(owner, OrderedDict())[key] = entry
        self._places[key] = (lane, owner)
        self._depths[lane] += 1

    def pop(self, lane: Lane) -> tuple[Key, Entry]:
        """Remove and return the oldest entry of the request whose turn it is; KeyError where the lane is empty."""
        requests = self._lanes[lane]
        if not requests:
            raise KeyError(lane)
        request = next(iter(requests))
        entries = requests[request]
        key = next(iter(entries))
        entry = entries[key]
        self.discard(key)
        if request in requests:  # its next turn is after those of all others
            requests.move_to_end(request)
        return key, entry

    def discard(self, key: Key) -> None:
        """Remove an entry, wherever it is, if it is still here."""
        if key not in self._places:
            return
        lane, request = self._places.pop(key)
        self._depths[lane] -= 1
        entries = self._lanes[lane][request]
        del entries[key]
        if not entries:
            del self._lanes[lane][request]
