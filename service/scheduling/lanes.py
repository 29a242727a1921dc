"""A queue with lanes, from which any entry may leave: what a worker pool and a batcher wait in."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from enum import IntEnum
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry")


class Lane(IntEnum):
    """Priority of work, the first being served first."""

    INTERACTIVE = 0
    """A person waits for one answer."""
    LIVE = 1
    """A person watches: the newest frame of a camera, which gives way to pictures since the next one is as good."""
    BULK = 2
    """A client waits for an answer of many parts."""
    BACKGROUND = 3
    """Nobody waits: a job."""

    @property
    def label(self) -> str:
        """The lane's name in metrics: `interactive`, `live`, `bulk` or `background`."""
        return self.name.lower()


LATER_EVERY = 16
"""Where several lanes wait, one turn in so many is a later one's: a video gets on, however many frames come."""


def first_in_turn(waiting: Sequence[Lane], turn: int) -> Lane:
    """Return which of the lanes that wait, given in their order, goes first in a turn, counted from 1.

    Of the turns that the first lane leaves, the second one in turn leaves as few to the third, and so on.
    """
    place = 0
    while turn % LATER_EVERY == 0 and place < len(waiting) - 1:
        turn //= LATER_EVERY
        place += 1
    return waiting[place]


FRESH_FIRST = 3
"""Entries of requests that have had none leave, for each of another request, where both wait."""


class _Requests(Generic[Key, Entry]):
    """The requests of a lane. Ordered dicts keep the order of turns and of arrival, and let any entry leave in O(1)."""

    def __init__(self) -> None:
        self.fresh: OrderedDict[Hashable, OrderedDict[Key, Entry]] = OrderedDict()
        """Those of which no entry has left."""
        self.begun: OrderedDict[Hashable, OrderedDict[Key, Entry]] = OrderedDict()
        """Those of which entries have left."""
        self.depth = 0
        self._fresh_in_a_row = 0

    def entries(self, request: Hashable) -> OrderedDict[Key, Entry]:
        """Return the entries of a request, which is fresh if it has none."""
        return self.begun[request] if request in self.begun else self.fresh.setdefault(request, OrderedDict())

    def next_request(self) -> Hashable:
        """Return the request whose turn it is, which is then the last of those that have begun."""
        if self.fresh and (not self.begun or self._fresh_in_a_row < FRESH_FIRST):
            self._fresh_in_a_row += 1
            request, entries = self.fresh.popitem(last=False)
        else:
            self._fresh_in_a_row = 0
            request, entries = self.begun.popitem(last=False)
        self.begun[request] = entries
        return request

    def forget(self, request: Hashable) -> None:
        """Forget a request, which has no entries."""
        self.fresh.pop(request, None)
        self.begun.pop(request, None)


class LaneQueue(Generic[Key, Entry]):
    """Entries by key. Within a lane the requests that wait take turns, each with its entries in order of arrival.

    A request of which no entry has left goes before those of which some have, but for one in FRESH_FIRST + 1 turns. So
    small requests do not wait for large ones, which get on nevertheless.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Requests[Key, Entry]] = {lane: _Requests() for lane in Lane}
        self._places: dict[Key, tuple[Lane, Hashable]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def depth(self, lane: Lane) -> int:
        """Entries of one lane."""
        return self._lanes[lane].depth

    def fresh(self, lane: Lane) -> int:
        """Requests of a lane of which no entry has left."""
        return len(self._lanes[lane].fresh)

    def begun(self, lane: Lane) -> int:
        """Requests of a lane of which entries have left, and others wait."""
        return len(self._lanes[lane].begun)

    def push(self, lane: Lane, key: Key, entry: Entry, request: Hashable | None = None) -> None:
        """Add an entry of a request, by default a request of its own."""
        owner = key if request is None else request
        self._lanes[lane].entries(owner)[key] = entry
        self._lanes[lane].depth += 1
        self._places[key] = (lane, owner)

    def pop(self, lane: Lane) -> tuple[Key, Entry]:
        """Remove and return the oldest entry of the request whose turn it is; KeyError where the lane is empty."""
        requests = self._lanes[lane]
        if not requests.depth:
            raise KeyError(lane)
        entries = requests.entries(requests.next_request())
        key = next(iter(entries))
        entry = entries[key]
        self.discard(key)
        return key, entry

    def discard(self, key: Key) -> None:
        """Remove an entry, wherever it is, if it is still here."""
        if key not in self._places:
            return
        lane, request = self._places.pop(key)
        requests = self._lanes[lane]
        requests.depth -= 1
        entries = requests.entries(request)
        del entries[key]
        if not entries:
            requests.forget(request)
