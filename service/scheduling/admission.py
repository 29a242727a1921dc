"""Admission control: a request that would wait too long for its turn is refused before it costs anything.

`Admission` does not add up the lengths of queues. All stages of a request share the same cores, so the wait in one
stage depends on the others. It counts the requests that are being served instead, and measures how fast they are
completed. By Little's law the time in a system is the number of requests in it divided by the rate of completions.

* A request counts from its admission, before its upload is read, until its answer is complete. So the first requests of
  a burst count for the later ones.
* Work is measured in turns. A picture is one turn, and each chunk of a video is one. A turn of `t` seconds, with `n`
  turns of its lane under way at its start, means that a turn is completed every `t / n` seconds. Uploads are not
  measured.
* The expected wait is the number of requests ahead, less the free places, multiplied by the mean time per turn.
* A request that finds a free place is admitted, however slow the service is.
* An admitted request is never refused later.
* A lane that is full stays closed until its wait is half as long. Otherwise each client that has just been answered
  would take the place that its own request has left, and those who come back as they were told would find none.
* Whoever is refused is told when to come back: once there is room, and spread so far beyond that those who come back
  are few beside those who are answered. Four out of five then find the lane open.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from heapq import heappop, heappush
from random import random

from service.scheduling.lanes import Lane
from service.scheduling.pace import MovingAverage

REOPENS_AT = 0.5
"""Share of the longest wait at which a lane that was full is open again."""

TURNS_A_RETURN = 6
"""Turns that are completed for each client that comes back after a refusal."""

MAX_SPREAD_S = 120.0
"""Longest mean time over which refused clients are spread, in seconds: some never come back, and are counted on."""


class WouldWait(Exception):
    """A request would wait for `expected_s` seconds, more than `limit_s`; it may come back in `retry_s` seconds."""

    def __init__(self, expected_s: float, limit_s: float, retry_s: float) -> None:
        super().__init__(f"a wait of {expected_s:.3g} s is expected, at most {limit_s:g} s are allowed")
        self.expected_s = expected_s
        self.limit_s = limit_s
        self.retry_s = retry_s


class Blocked(Exception):
    """Nothing gets on at present; the message says what does not."""


class Ticket:
    """An admitted request."""

    def __init__(self, admission: "Admission", lane: Lane, since_s: float) -> None:
        self._admission = admission
        self.lane = lane
        self.since_s = since_s
        """Time of its admission, by the admission's clock."""
        self.started = False
        """True once its first turn has begun; before that, its upload is read."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Measure a turn of its work; a turn that fails is not counted."""
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
        why_blocked: Callable[[Lane], str | None] = lambda lane: None,
        clock: Callable[[], float] = time.perf_counter,
        random: Callable[[], float] = random,
    ) -> None:
        """Take the longest wait of each lane in seconds, and how many turns can be under way without waiting.

        why_blocked: returns the reason why no request of a lane can be admitted at present, or None. random: returns
        numbers from 0 to 1, by which those who are to come back are spread.
        """
        self._limits_s = dict(limits_s)
        self._workers = workers
        self._why_blocked = why_blocked
        self._clock = clock
        self._random = random
        self._full = dict.fromkeys(Lane, False)
        self._returns_s: dict[Lane, list[float]] = {lane: [] for lane in Lane}
        """Heaps of the times at which refused clients were told to come back."""
        self._tickets: dict[Lane, set[Ticket]] = {lane: set() for lane in Lane}
        self._under_way = dict.fromkeys(Lane, 0)
        self._paces = {lane: MovingAverage(most=4) for lane in Lane}

    @contextmanager
    def admitted(self, lane: Lane, within_s: float | None = None) -> Iterator[Ticket]:
        """Admit a request for the length of the block. Raises Blocked or WouldWait at its beginning.

        within_s: the longest wait in seconds that the request itself allows, instead of the lane's.
        """
        if (reason := self._why_blocked(lane)) is not None:
            raise Blocked(reason)
        self._refuse_if_long(lane, within_s)
        ticket = Ticket(self, lane, self._clock())
        self._tickets[lane].add(ticket)
        try:
            yield ticket
        finally:
            self._tickets[lane].remove(ticket)

    def _refuse_if_long(self, lane: Lane, within_s: float | None) -> None:
        expected_s = self.expected_wait_s(lane)
        limit_s = self._limits_s[lane] if within_s is None else within_s
        room_s = limit_s * REOPENS_AT
        if within_s is None:
            self._full[lane] = expected_s > (room_s if self._full[lane] else limit_s)
            refused = self._full[lane]
        else:
            refused = expected_s > limit_s
        if refused:
            raise WouldWait(expected_s, limit_s, self._told_to_return(lane, expected_s - room_s))

    def _told_to_return(self, lane: Lane, until_room_s: float) -> float:
        """Return in how many seconds a refused client is to come back, and count on it."""
        now_s = self._clock()
        returns_s = self._returns_s[lane]
        while returns_s and returns_s[0] <= now_s:
            heappop(returns_s)
        spread_s = min(TURNS_A_RETURN * (len(returns_s) + 1) * self._paces[lane].value, MAX_SPREAD_S)
        retry_s = until_room_s + (0.5 + self._random()) * spread_s
        heappush(returns_s, now_s + retry_s)
        return retry_s

    def expected_wait_s(self, lane: Lane) -> float:
        """Return the seconds until the first turn of a new request.

        Interactive requests go first, so bulk requests count for other bulk requests only.
        """
        first = (Lane.INTERACTIVE,) if lane is Lane.INTERACTIVE else tuple(Lane)
        ahead = {each: self._ahead(each) for each in first}
        if sum(ahead.values()) < self._workers:
            return 0.0
        share = 1 - (self._workers - 1) / sum(ahead.values())
        return share * sum(ahead[each] * self._paces[each].value for each in first)

    @contextmanager
    def measured(self, lane: Lane) -> Iterator[None]:
        """Measure a turn from its start to its end."""
        self._under_way[lane] += 1
        together = self._under_way[lane]
        started = self._clock()
        try:
            yield
            self._paces[lane].note((self._clock() - started) / together)
        finally:
            self._under_way[lane] -= 1

    def _ahead(self, lane: Lane) -> int:
        """Count the requests ahead. An upload that outlasts the limit is not expected before a new request's turn."""
        oldest_s = self._clock() - self._limits_s[lane]
        return sum(ticket.started or ticket.since_s >= oldest_s for ticket in self._tickets[lane])
