"""Admission control: a request that would wait too long for its turn is refused before it costs anything.

`Admission` does not add up the lengths of queues. All stages of a request share the same cores, so the wait in one
stage depends on the others. It counts the requests that are being served instead, and measures how fast they are
completed. By Little's law the time in a system is the number of requests in it divided by the rate of completions.

* A request counts from its admission, before its upload is read, until its answer is complete. So the first requests of
  a burst count for the later ones.
* Work is measured in turns. A picture is one turn, and each chunk of a video is one. A lane's pace is the time in which
  any of its turns are under way, divided by what they complete. Uploads are not measured.
* A turn may cost several units: a picture costs one for each face. Until its faces are found it counts as one. Requests
  share all stages by turns of one unit, so a small request waits for one unit of each large one, and a large request
  for as many units of the others as it has itself. Its wait is judged again when its cost is known.
* The mean wait is the number of such units ahead, less the free places, multiplied by the mean time per unit. A request
  is expected to wait for LATE times as long.
* A request that finds a free place is admitted, however slow the service is.
* A request that has been admitted with its cost is never refused later.
* A lane that was full refuses some of the further requests, though they would fit: by chance, and the more, the longer
  its wait has been of late, until this is short. If it refused at its limit only, it would stay full, since a client
  that has just been answered comes at the moment at which its own request has left, and after a batch many do. Those
  who come back as they were told would find no place. By chance all have the same prospect (random early detection:
  Floyd and Jacobson, IEEE/ACM Transactions on Networking 1(4), 1993). A lane may be full for requests of some cost
  only, and open for smaller ones.
* Whoever is refused is told when to come back: once there is room, and spread so far beyond that those who come back
  are few beside those who are answered. Four out of five are then admitted.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from heapq import heappop, heappush
from random import random

from service.scheduling.lanes import Lane
from service.scheduling.pace import Pace

LATE = 1.25
"""The wait that is expected of a request, as a multiple of the mean wait, about which waits vary. It rests on a longest
wait of 0.25 s and three times the load that two cores can answer (docs/benchmarks.md)."""

REFUSES_FROM = 0.5
"""Wait of late, as a share of the longest wait, from which on a lane that was full refuses some.

Their part rises evenly from none of them there to all of them at the longest wait.
"""

OPENS_AT = 0.25
"""Wait of late at which a lane that was full is open to all again, as a share of the longest wait."""

OF_LATE = 0.5
"""Time constant of the wait of late, as a share of the longest wait."""

COSTS = (1, 2, 4, 8, 16, 32, 64)
"""Costs for which the wait of late is known; any other request goes by the next lower one."""

TURNS_A_RETURN = 8
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

    def __init__(
        self, line: "_Line", since_s: float, within_s: float | None, judge: Callable[["Ticket"], None]
    ) -> None:
        self._line = line
        self._judge = judge
        self.since_s = since_s
        """Time of its admission, by the admission's clock."""
        self.within_s = within_s
        """Longest wait in seconds that the request itself allows, instead of the lane's."""
        self.started = False
        """True once its first turn has begun; before that, its upload is read."""
        self.cost = 1
        """Units of work of its turn."""

    @property
    def lane(self) -> Lane:
        """The lane in which it waits."""
        return self._line.lane

    def turn(self) -> AbstractContextManager[None]:
        """Measure a turn of its work; one that fails counts as well, since it makes room for others."""
        return self._line.turn(self)

    def costs(self, units: int) -> None:
        """Tell how many units its turn costs, now that this is known; fewer than one count as one.

        Raises WouldWait where so large a request would wait too long.
        """
        self._line.costs(self, max(1, units))
        if self.cost > 1:
            self._judge(self)


class _Line:
    """The admitted requests of a lane: their units, now and of late, and the pace at which these are completed."""

    def __init__(self, lane: Lane, limit_s: float, clock: Callable[[], float]) -> None:
        self.lane = lane
        self.limit_s = limit_s
        self.tickets: set[Ticket] = set()
        self.pace = Pace()
        """Seconds for each unit."""
        self.full_for = math.inf
        """Least cost of a request for which the lane has been full, and not open to all since."""
        self._clock = clock
        self._seen_s = clock()
        self._under_way = 0
        """Turns under way."""
        self._units = [0] * len(COSTS)
        """Units ahead of a request of each of COSTS, in the requests that have started."""
        self._units_of_late = [0.0] * len(COSTS)
        """The same, averaged over the time of late."""

    def ahead(self) -> Iterator[Ticket]:
        """Yield the requests that count. An upload that outlasts the limit is not expected before a new turn."""
        oldest_s = self._clock() - self.limit_s
        return (ticket for ticket in self.tickets if ticket.started or ticket.since_s >= oldest_s)

    def units_of_late(self, cost: int) -> float:
        """Return the mean number of units, of late, ahead of a request of a cost."""
        self._pass_time()
        return self._units_of_late[bisect_right(COSTS, cost) - 1]

    @contextmanager
    def turn(self, ticket: Ticket) -> Iterator[None]:
        """Measure a turn of a request from its start to its end."""
        self._pass_time()
        if not ticket.started:
            ticket.started = True
            self._count(0, ticket.cost)
        self._under_way += 1
        refused = False
        try:
            yield
        except WouldWait:  # its faces have been found, and are not read
            refused = True
            raise
        finally:
            self._pass_time()
            units = 1 if refused else ticket.cost
            self.pace.completed(units, max(units, self._units[-1]))
            self._under_way -= 1

    def costs(self, ticket: Ticket, units: int) -> None:
        """Let a request cost so many units from now on."""
        if ticket.started:
            self._pass_time()
            self._count(ticket.cost, units)
        ticket.cost = units

    def leave(self, ticket: Ticket) -> None:
        """Let a request out."""
        self.tickets.remove(ticket)
        if ticket.started:
            self._pass_time()
            self._count(ticket.cost, 0)

    def _count(self, before: int, after: int) -> None:
        """Count a request with other units than before."""
        for place, cost in enumerate(COSTS):
            self._units[place] += min(after, cost) - min(before, cost)

    def _pass_time(self) -> None:
        """Take in the time since the last call, in which nothing has changed."""
        now_s = self._clock()
        passed_s = now_s - self._seen_s
        self._seen_s = now_s
        if self._under_way:
            self.pace.passed(passed_s)
        kept = math.exp(-passed_s / (OF_LATE * self.limit_s))
        self._units_of_late = [
            now + kept * (late - now) for now, late in zip(self._units, self._units_of_late, strict=True)
        ]


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

        A lane without a longest wait refuses nobody.

        why_blocked: returns the reason why no request of a lane can be admitted at present, or None. random: returns
        numbers from 0 to 1, by which some are refused early, and those who are to come back are spread.
        """
        self._workers = workers
        self._why_blocked = why_blocked
        self._clock = clock
        self._random = random
        self._lines = {lane: _Line(lane, limits_s.get(lane, math.inf), clock) for lane in Lane}
        self._returns_s: dict[Lane, list[float]] = {lane: [] for lane in Lane}
        """Heaps of the times at which refused clients were told to come back."""

    @contextmanager
    def admitted(self, lane: Lane, within_s: float | None = None) -> Iterator[Ticket]:
        """Admit a request for the length of the block. Raises Blocked or WouldWait at its beginning.

        within_s: the longest wait in seconds that the request itself allows, instead of the lane's.
        """
        if (reason := self._why_blocked(lane)) is not None:
            raise Blocked(reason)
        line = self._lines[lane]
        ticket = Ticket(line, self._clock(), within_s, self.judge)
        self.judge(ticket)
        line.tickets.add(ticket)
        try:
            yield ticket
        finally:
            line.leave(ticket)

    def judge(self, ticket: Ticket) -> None:
        """Raise WouldWait if a request, admitted or not, would wait too long for its turn at its cost."""
        line = self._lines[ticket.lane]
        limit_s = line.limit_s if ticket.within_s is None else ticket.within_s
        expected_s = LATE * self._wait_s(ticket.lane, ticket.cost, but_for=ticket)
        refused = expected_s > limit_s
        if ticket.within_s is None:
            if refused:
                line.full_for = min(line.full_for, ticket.cost)
            else:
                refused = expected_s > 0 and self._refused_early(line, ticket.cost)
        if refused:
            raise WouldWait(expected_s, limit_s, self._told_to_return(ticket, expected_s - REFUSES_FROM * limit_s))

    def _refused_early(self, line: _Line, cost: int) -> bool:
        """Return True for a request that is refused though its wait would be short enough."""
        if cost < line.full_for:
            return False
        share = LATE * self._wait_of_late_s(line.lane, cost) / line.limit_s
        if share <= OPENS_AT:
            line.full_for = math.inf
        return share > REFUSES_FROM + (1 - REFUSES_FROM) * self._random()

    def _told_to_return(self, ticket: Ticket, until_room_s: float) -> float:
        """Return in how many seconds a refused client is to come back, and count on it."""
        now_s = self._clock()
        returns_s = self._returns_s[ticket.lane]
        while returns_s and returns_s[0] <= now_s:
            heappop(returns_s)
        turn_s = ticket.cost * self._lines[ticket.lane].pace.value
        spread_s = min(TURNS_A_RETURN * (len(returns_s) + 1) * turn_s, MAX_SPREAD_S)
        retry_s = max(0.0, until_room_s) + (0.5 + self._random()) * spread_s
        heappush(returns_s, now_s + retry_s)
        return retry_s

    def expected_wait_s(self, lane: Lane) -> float:
        """Return the seconds until the first turn of a new request.

        Those of earlier lanes go first, so bulk requests count for no interactive one.
        """
        return self._wait_s(lane, 1)

    def _wait_s(self, lane: Lane, cost: int, but_for: Ticket | None = None) -> float:
        """Return the seconds that a request of a lane waits for earlier lanes, and for the others in its own."""
        ahead = {
            each: [ticket for ticket in self._lines[each].ahead() if ticket is not but_for] for each in _up_to(lane)
        }
        units = {each: sum(ticket.cost for ticket in tickets) for each, tickets in ahead.items()}
        units[lane] = sum(min(ticket.cost, cost) for ticket in ahead[lane])
        return self._until_free_s(sum(map(len, ahead.values())), units)

    def _wait_of_late_s(self, lane: Lane, cost: int) -> float:
        """Return the seconds that a request of a lane has waited, of late, as the mean over time."""
        lines = [self._lines[each] for each in _up_to(lane)]
        units = {line.lane: line.units_of_late(cost if line.lane is lane else COSTS[-1]) for line in lines}
        return self._until_free_s(sum(line.units_of_late(1) for line in lines), units)

    def _until_free_s(self, requests: float, units: Mapping[Lane, float]) -> float:
        """Return the seconds until there is a free place, behind so many requests with units in lanes."""
        if requests < self._workers:
            return 0.0
        share = 1 - (self._workers - 1) / requests
        return share * sum(each * self._lines[lane].pace.value for lane, each in units.items())


def _up_to(lane: Lane) -> Iterable[Lane]:
    """Return the lanes that go before a lane, and this one."""
    return (each for each in Lane if each <= lane)
