import asyncio
import heapq
import math
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count

import numpy as np
import pytest

from service.scheduling.admission import LATE, Admission, Blocked, Ticket, WouldWait
from service.scheduling.lanes import Lane, LaneQueue
from tests.service.scheduling.clocks import ManualClock

LIMITS_S = {Lane.INTERACTIVE: 0.25, Lane.BULK: 10.0}


@contextmanager
def taking(clock: ManualClock, ticket: Ticket, seconds: float) -> Iterator[None]:
    """A turn that takes so long."""
    with ticket.turn():
        yield
        clock.now_s += seconds


def learned(clock: ManualClock, lane: Lane, turn_s: float, workers: int = 1) -> Admission:
    """An admission that has seen three turns of one length, and therefore no deviation."""
    admission = Admission(LIMITS_S, workers, clock=clock)
    for _ in range(3):
        with admission.admitted(lane) as ticket, taking(clock, ticket, turn_s):
            pass
    return admission


def test_each_of_those_ahead_takes_a_turn() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.08)
    with ExitStack() as stack:
        for ahead in range(3):  # mean waits of 0, 0.08 and 0.16 s
            assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.08 * ahead)
            stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        with pytest.raises(WouldWait, match=r"0\.3 s is expected, at most 0\.25 s") as refusal:
            stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        assert refusal.value.expected_s == pytest.approx(0.24 * 1.25)  # nearly all wait less
        assert refusal.value.limit_s == 0.25
    assert admission.expected_wait_s(Lane.INTERACTIVE) == 0


def test_a_free_place_is_given_at_once_however_long_turns_take() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 5, workers=2)
    with admission.admitted(Lane.INTERACTIVE), admission.admitted(Lane.INTERACTIVE):
        # Two are in; when the first of them leaves, at half of the time that both take, there is a place.
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(5)
        with pytest.raises(WouldWait), admission.admitted(Lane.INTERACTIVE):
            pass


def test_turns_that_run_together_share_the_time() -> None:
    clock = ManualClock()
    admission = Admission(LIMITS_S, 1, clock=clock)
    with admission.admitted(Lane.INTERACTIVE) as first, admission.admitted(Lane.INTERACTIVE) as second:
        with first.turn(), second.turn():
            clock.now_s += 0.2  # two together: 0.1 s each
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(2 * 0.1)


def test_a_turn_that_fails_makes_room_as_any_other() -> None:
    clock = ManualClock()
    admission = Admission(LIMITS_S, 1, clock=clock)
    with admission.admitted(Lane.INTERACTIVE) as first, admission.admitted(Lane.INTERACTIVE) as second:
        with suppress(ZeroDivisionError), first.turn():
            clock.now_s += 0.1
            raise ZeroDivisionError
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(2 * 0.1)
        with taking(clock, second, 0.2):
            pass
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(2 * 0.15, rel=0.01)


def test_damaged_pictures_do_not_turn_good_ones_away() -> None:
    """Nine of ten turns fail after 5 ms, and the others take 20: the mean is 6.5 ms, for which 29 wait 0.19 s."""
    clock = ManualClock()
    admission = Admission({Lane.INTERACTIVE: 2.0}, 1, clock=clock)
    for number in range(200):
        with suppress(ZeroDivisionError), admission.admitted(Lane.INTERACTIVE) as ticket, ticket.turn():
            clock.now_s += 0.02 if number % 10 == 0 else 0.005
            if number % 10:
                raise ZeroDivisionError
    with ExitStack() as stack:
        for _ in range(29):
            stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(29 * 0.0065, rel=0.1)


def test_a_crowd_that_is_refused_counts_as_one_unit() -> None:
    """A picture with 64 faces would wait for a unit of each of two others, 0.25 s, and allows 0.2."""
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.1)
    told: list[WouldWait] = []
    with ExitStack() as others, admission.admitted(Lane.INTERACTIVE, within_s=0.2) as crowd:
        for _ in range(2):
            others.enter_context(admission.admitted(Lane.INTERACTIVE, within_s=9))
        try:
            with crowd.turn():
                clock.now_s += 0.1
                crowd.costs(64)
        except WouldWait as refusal:
            told.append(refusal)
    assert len(told) == 1
    with admission.admitted(Lane.INTERACTIVE):
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)


def test_a_video_waits_for_pictures_and_a_picture_not_for_videos() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.1)
    with admission.admitted(Lane.BULK) as video:
        with taking(clock, video, 3):
            pass
        assert admission.expected_wait_s(Lane.INTERACTIVE) == 0
        with admission.admitted(Lane.INTERACTIVE):
            assert admission.expected_wait_s(Lane.BULK) == pytest.approx(3.1)
            assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)


def test_a_job_is_never_refused_and_delays_nobody() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.1)
    with admission.admitted(Lane.BACKGROUND) as job:
        with taking(clock, job, 1000):
            pass
        with admission.admitted(Lane.BACKGROUND), admission.admitted(Lane.BACKGROUND):
            assert admission.expected_wait_s(Lane.BACKGROUND) == pytest.approx(3000)
            assert admission.expected_wait_s(Lane.BULK) == admission.expected_wait_s(Lane.INTERACTIVE) == 0


def test_an_upload_counts_until_it_is_clear_that_it_comes_too_late() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.1)
    with admission.admitted(Lane.INTERACTIVE) as ticket:
        clock.now_s += 0.25
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)
        clock.now_s += 0.01
        assert admission.expected_wait_s(Lane.INTERACTIVE) == 0
        with ticket.turn():  # it has come after all, and what it took does not count
            assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)
            clock.now_s += 0.1
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)


def test_nobody_comes_in_while_nothing_gets_on() -> None:
    reasons = {Lane.BULK: "the network does not answer"}
    admission = Admission(LIMITS_S, 1, reasons.get)
    with pytest.raises(Blocked, match="the network does not answer"), admission.admitted(Lane.BULK):
        pass
    with admission.admitted(Lane.INTERACTIVE):  # which something else may serve
        pass
    reasons.clear()
    with admission.admitted(Lane.BULK):
        pass


@pytest.mark.parametrize("load", [0.5, 1, 3, 10])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_whoever_is_let_in_is_answered_as_the_limit_promises(load: float, workers: int) -> None:
    """Pictures of random cost come at random, at some times the capacity of a few workers."""
    clock, random = ManualClock(), np.random.default_rng(0)
    alone_s = 0.03 * workers
    admission = Admission(LIMITS_S, workers, clock=clock)
    answers_s: list[float] = []
    refused = 0

    async def picture(places: asyncio.Semaphore) -> None:
        nonlocal refused
        came_s = clock.now_s
        try:
            with admission.admitted(Lane.INTERACTIVE) as ticket, ticket.turn():
                async with places:
                    await clock.sleep(random.gamma(4, alone_s / 4))
            answers_s.append(clock.now_s - came_s)
        except WouldWait:
            refused += 1

    async def story() -> None:
        places = asyncio.Semaphore(workers)
        async with asyncio.TaskGroup() as group:
            for _ in range(1500):
                group.create_task(picture(places))
                await clock.advance(random.exponential(alone_s / workers / load))
            await clock.advance(60)

    asyncio.run(story())
    settled_s = answers_s[100:]
    idle_s = np.percentile(np.random.default_rng(1).gamma(4, alone_s / 4, 10_000), 95)
    assert np.percentile(settled_s, 95) <= 0.25 + 2 * idle_s
    if load > 1:
        assert refused > 0
        assert np.mean(settled_s) > 0.25 / 2  # the wait is made use of: nobody is sent away without need


class Crowd:
    """Clients that each send a picture as soon as the last one is answered, or when they were told to come back.

    Events on a clock; `workers` serve the admitted in the order of arrival, each picture for a random time.
    """

    def __init__(self, clients: int, turn_s: float, limit_s: float = 5, workers: int = 2) -> None:
        self.clock = ManualClock()
        self.random = np.random.default_rng(0)
        limits_s = {Lane.INTERACTIVE: limit_s, Lane.BULK: limit_s}
        self.admission = Admission(limits_s, 2, clock=self.clock, random=self.random.random)
        self.turn_s = turn_s
        self.free = workers
        self.queue: deque[Generator[None, None, None]] = deque()
        self.events: list[tuple[float, int, bool, Sequence[Generator[None, None, None]]]] = []
        self.order = count()
        self.told: Counter[bool] = Counter()
        """Returns of clients as they were told, by success."""
        self.answered = 0
        for number in range(clients):
            self._at(number * 0.001)

    def _at(self, seconds: float, *, told: bool = False, served: Sequence[Generator[None, None, None]] = ()) -> None:
        heapq.heappush(self.events, (self.clock.now_s + seconds, next(self.order), told, served))

    def _request(self) -> Generator[None, None, None]:
        with self.admission.admitted(Lane.INTERACTIVE) as ticket, ticket.turn():
            yield

    def _arrive(self, told: bool) -> None:
        request = self._request()
        try:
            next(request)
        except WouldWait as refusal:
            self._at(max(1, math.ceil(refusal.retry_s)), told=True)
            self.told[False] += told
        else:
            self.queue.append(request)
            self.told[True] += told

    def _serve(self) -> None:
        """Let a free worker begin."""
        self._at(self.random.gamma(4, self.turn_s / 4), served=[self.queue.popleft()])

    def run(self, seconds: float) -> None:
        while self.events and self.events[0][0] < seconds:
            self.clock.now_s, _, told, served = heapq.heappop(self.events)
            for request in served:
                next(request, None)
                self.answered += 1
                self._at(self.random.uniform(0.001, 0.003))
            if served:
                self.free += 1
            else:
                self._arrive(told)
            while self.queue and self.free:
                self.free -= 1
                self._serve()


PASS_S = 0.006
FACE_S = 0.0145


class BatchedCrowd(Crowd):
    """The same before one network, whose pass takes all that wait, and a time that grows with their number."""

    def __init__(self, clients: int, limit_s: float) -> None:
        super().__init__(clients, FACE_S, limit_s, workers=1)

    def _serve(self) -> None:
        batch = list(self.queue)
        self.queue.clear()
        self._at(PASS_S + FACE_S * len(batch), served=batch)


@pytest.mark.parametrize(
    ("clients", "turn_s", "refused"),
    [(16, 0.06, False), (64, 0.06, False), (256, 0.06, True), (256, 0.12, True), (64, 0.3, True), (16, 0.45, False)],
)
def test_whoever_comes_back_as_told_is_let_in(clients: int, turn_s: float, refused: bool) -> None:
    crowd = Crowd(clients, turn_s)
    crowd.run(100)
    answered = crowd.answered
    crowd.told.clear()
    crowd.run(400)
    assert crowd.answered - answered == pytest.approx(300 / (turn_s / 2), rel=0.05)  # both workers are always busy
    assert (crowd.told.total() > 50) == refused  # few clients, or fast turns, fit into a queue of 5 s
    assert crowd.told[True] >= 0.8 * crowd.told.total()


@pytest.mark.parametrize("clients", [16, 64, 256])
@pytest.mark.parametrize("limit_s", [0.25, 5])
def test_a_batched_network_stays_busy_and_lets_in_whoever_comes_back_as_told(clients: int, limit_s: float) -> None:
    crowd = BatchedCrowd(clients, limit_s)
    crowd.run(20)
    soon = crowd.answered
    crowd.run(100)
    answered = crowd.answered
    crowd.told.clear()
    crowd.run(400)
    passes_of_six = 6 / (PASS_S + 6 * FACE_S)
    assert soon >= 0.9 * 20 * passes_of_six
    assert crowd.answered - answered >= 0.9 * 300 * passes_of_six
    assert (crowd.told.total() > 50) == (limit_s < LATE * clients * FACE_S)
    assert crowd.told[True] >= 0.8 * crowd.told.total()


def test_four_at_a_time_get_through_a_folder_of_photographs_without_a_refusal() -> None:
    crowd = Crowd(4, turn_s=1)
    crowd.run(64)
    assert crowd.answered > 64
    assert crowd.told.total() == 0


def test_refused_clients_are_spread_over_the_time_that_the_queue_takes() -> None:
    clock, numbers = ManualClock(), iter([0.0, 0.5, 1.0])
    admission = Admission(LIMITS_S, 1, clock=clock, random=lambda: next(numbers))
    for _ in range(3):
        with admission.admitted(Lane.INTERACTIVE) as ticket, taking(clock, ticket, 0.08):
            pass
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        for returning, number in enumerate((0.0, 0.5, 1.0), 1):
            with pytest.raises(WouldWait) as refusal, admission.admitted(Lane.INTERACTIVE):
                pass
            # 0.3 s are expected, and there is room at half of 0.25 s; each that comes back has the time of eight turns.
            assert refusal.value.retry_s == pytest.approx(0.3 - 0.125 + (0.5 + number) * 8 * returning * 0.08)


def test_a_lane_that_was_full_opens_at_half_its_wait_and_a_request_may_allow_another() -> None:
    clock = ManualClock()
    admission = learned(clock, Lane.INTERACTIVE, 0.08)
    with ExitStack() as others:
        with ExitStack() as two:
            for _ in range(2):
                two.enter_context(admission.admitted(Lane.INTERACTIVE))
            others.enter_context(admission.admitted(Lane.INTERACTIVE))
            with pytest.raises(WouldWait), admission.admitted(Lane.INTERACTIVE):
                pass
            with admission.admitted(Lane.INTERACTIVE, within_s=0.4):
                pass
        others.enter_context(admission.admitted(Lane.INTERACTIVE))  # 0.08 s: less than half of 0.25
        with pytest.raises(WouldWait) as refusal, admission.admitted(Lane.INTERACTIVE, within_s=0.15):
            pass
        assert refusal.value.limit_s == 0.15
        with admission.admitted(Lane.INTERACTIVE):  # 0.16 s; what one client allows closes the lane to no other
            pass


UNIT_S = 0.02
FOUND_S = 0.008


class Network:
    """A network that takes 20 ms for each face, and serves them in the order of a batcher, and a clock with events."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.admission = Admission({Lane.INTERACTIVE: 5}, 2, clock=self.clock, random=np.random.default_rng(0).random)
        self.queue: LaneQueue[object, Client] = LaneQueue()
        self.answered: Counter[int] = Counter()
        """Answered pictures by their faces."""
        self.told: Counter[tuple[int, bool]] = Counter()
        """Returns of clients as they were told, by faces and success."""
        self._events: list[tuple[float, int, Client]] = []
        self._order = count()

    def after(self, seconds: float, client: "Client") -> None:
        heapq.heappush(self._events, (self.clock.now_s + seconds, next(self._order), client))

    def run(self, seconds: float) -> None:
        while self.clock.now_s < seconds:
            while self._events and self._events[0][0] <= self.clock.now_s:
                next(heapq.heappop(self._events)[2].steps)
            if self.queue:
                _, client = self.queue.pop(Lane.INTERACTIVE)
                self.clock.now_s += UNIT_S
                next(client.steps)
            else:
                self.clock.now_s = max(self.clock.now_s, self._events[0][0])


class Client:
    """Sends pictures of so many faces, each as soon as the last one is answered, or when it was told to come back."""

    def __init__(self, network: Network, faces: int) -> None:
        self.steps = self._steps(network, faces)
        """Goes on after the time that it asked for, and whenever one of its faces has been served."""

    def _steps(self, network: Network, faces: int) -> Generator[None, None, None]:
        told = False
        while True:
            try:
                with network.admission.admitted(Lane.INTERACTIVE) as ticket, ticket.turn():
                    network.after(FOUND_S, self)
                    yield
                    ticket.costs(faces)
                    network.told[faces, True] += told
                    told = False
                    for _ in range(faces):
                        network.queue.push(Lane.INTERACTIVE, object(), self, ticket)
                    for _ in range(faces):
                        yield
            except WouldWait as refusal:
                network.told[faces, False] += told
                told = True
                network.after(max(1, math.ceil(refusal.retry_s)), self)
            else:
                network.answered[faces] += 1
                network.after(0.001, self)
            yield


@cache
def busy_network(small: int, crowds: int) -> Network:
    """A network between the times of 100 and 600 s, with so many clients of one face, and of 64."""
    network = Network()
    for number, faces in enumerate([1] * small + [64] * crowds):
        network.after(number * 0.001, Client(network, faces))
    network.run(100)
    network.answered.clear()
    network.told.clear()
    network.run(600)
    return network


@pytest.mark.parametrize("crowds", [1, 4, 16, 64])
def test_clients_with_one_face_keep_half_of_their_answers_beside_clients_with_crowds(crowds: int) -> None:
    alone, beside = busy_network(4, 0), busy_network(4, crowds)
    assert alone.answered[1] == pytest.approx(500 / UNIT_S, rel=0.05)
    assert beside.answered[1] >= 0.5 * alone.answered[1]
    assert beside.answered[64] * 64 >= 0.2 * alone.answered[1]  # the others get on, too
    assert not beside.told[1, False]


def test_a_large_request_is_judged_when_its_cost_is_known() -> None:
    clock = ManualClock()
    admission = Admission({Lane.INTERACTIVE: 1.25}, 1, clock=clock, random=lambda: 0.5)
    with admission.admitted(Lane.INTERACTIVE) as ticket, ticket.turn():
        ticket.costs(10)
        clock.now_s += 1  # a unit takes 0.1 s
    with ExitStack() as stack:
        first = stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        first.costs(64)  # it is alone
        assert admission.expected_wait_s(Lane.INTERACTIVE) == pytest.approx(0.1)  # by turns, for one of its units
        second = stack.enter_context(admission.admitted(Lane.INTERACTIVE))
        second.costs(10)  # beside ten of the first
        with admission.admitted(Lane.INTERACTIVE) as third:
            third.costs(0)  # counts as one
            with pytest.raises(WouldWait, match=r"a wait of 1\.5 s is expected, at most 1\.25 s") as refusal:
                third.costs(6)
            # There is room at half of the limit, and each that comes back has the time of eight turns of its cost.
            assert refusal.value.retry_s == pytest.approx(1.5 - 0.625 + 8 * 6 * 0.1)
        with admission.admitted(Lane.INTERACTIVE) as another:
            another.costs(2)  # 0.4 s
            with pytest.raises(WouldWait):
                another.costs(6)
        patient = stack.enter_context(admission.admitted(Lane.INTERACTIVE, within_s=2))
        patient.costs(6)
