"""Admission control: a request that would wait too long for its turn is refused before it costs anything.

`Admission` does not add up queues, it counts who is in. Every stage a request goes through takes from the same cores,
so the stages' waits cannot be known from their queues one by one; but whoever is in has to leave before a newcomer's
turn, and how fast they leave can be measured from outside (Little's law: the time in a system is the number in it by
the pace at which they leave).

* A request is in from its admission, before its upload is read, to its answer: of a burst each counts for the next.
* It works in turns: a picture is one, a video one after another. A turn that took `t` seconds, while `n` turns of its
  lane were under way at its start, says that one leaves every `t / n` seconds. Its upload says nothing.
* The expected wait is the number of those ahead, less the places that are free, by that pace.
* Whoever finds a place free comes in at once, however slow the service is.
* Whoever was let in is never refused later.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from service.scheduling.lanes import Lane
from service.scheduling.pace import MovingAverage


class WouldWait(Exception):
    """A request would wait for `expected_s` seconds, longer than `limit_s`."""

    def __init__(self, expected_s: float, limit_s: float) -> None:
        super().__init__(f"a wait of {expected_s:.3g} s is expected, at most {limit_s:g} s are allowed")
        self.expected_s = expected_s
        self.limit_s = limit_s


class Blocked(Exception):
    """Nothing gets on at present; the message says what does not."""


class Ticket:
    """One request that is in."""

    def __init__(self, admission: "Admission", lane: Lane, since_s: float) -> None:
        self._admission = admission
        self.lane = lane
        self.since_s = since_s
        """When it came in, by the admission's clock."""
        self.started = False
        """Whether its work has begun: before that, its upload is read."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn of its work; one that fails says nothing of the pace."""
        self.started = True
        with self._admission.measured(self.lane):
            yield


class Admission:
    """Admits requests by the wait that is expected for them. Belongs to one event loop.

    >>> with admission.admitted(Lane.INTERACTIVE) as ticket:
    ...     file = await upload()
    ...     with ticket.turn():
    ...         return await analyse(file)
    """

    def __init__(
        self,
        limits_s: Mapping[Lane, float],
        workers: int,
        why_blocked: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """limits_s: the longest wait of each lane. workers: how many turns can be under way without waiting.

        why_blocked: says what stands still so that nobody may come in, or None.
        """
        self._limits_s = dict(limits_s)
        self._workers = workers
        self._why_blocked = why_blocked
        self._clock = clock
        self._tickets: dict[Lane, set[Ticket]] = {lane: set() for lane in Lane}
        self._under_way = dict.fromkeys(Lane, 0)
        self._paces = {lane: MovingAverage(most=4) for lane in Lane}

    @contextmanager
    def admitted(self, lane: Lane) -> Iterator[Ticket]:
        """Be in for the length of the block. Raises Blocked or WouldWait at its beginning."""
        if (reason := self._why_blocked()) is not None:
            raise Blocked(reason)
        expected_s = self.expected_wait_s(lane)
        if expected_s > self._limits_s[lane]:
            raise WouldWait(expected_s, self._limits_s[lane])
        ticket = Ticket(self, lane, self._clock())
        self._tickets[lane].add(ticket)
        try:
            yield ticket
        finally:
            self._tickets[lane].remove(ticket)

    def expected_wait_s(self, lane: Lane) -> float:
        """Seconds until a newcomer's turn; interactive requests go first, so videos count for videos only."""
        first = (Lane.INTERACTIVE,) if lane is Lane.INTERACTIVE else tuple(Lane)
        ahead = {each: self._ahead(each) for each in first}
        if sum(ahead.values()) < self._workers:
            return 0.0
        share = 1 - (self._workers - 1) / sum(ahead.values())
        return share * sum(ahead[each] * self._paces[each].value for each in first)

    @contextmanager
    def measured(self, lane: Lane) -> Iterator[None]:
        """A turn, from its start to its end."""
        self._under_way[lane] += 1
        together = self._under_way[lane]
        started = self._clock()
        try:
            yield
            self._paces[lane].note((self._clock() - started) / together)
        finally:
            self._under_way[lane] -= 1

    def _ahead(self, lane: Lane) -> int:
        """Requests that are in; an upload that outlasts the limit will not be there before a newcomer's turn."""
        oldest_s = self._clock() - self._limits_s[lane]
        return sum(ticket.started or ticket.since_s >= oldest_s for ticket in self._tickets[lane])
