import asyncio
import math
from collections import Counter
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import load
from benchmarks.load import Answers, arrivals_s, ask, batches, mean_batch
from service.telemetry import Telemetry


def test_arrivals_by_hand() -> None:
    assert arrivals_s(4, 1) == [0, 0.25, 0.5, 0.75]
    assert arrivals_s(0.1, 1) == [0]


@given(st.floats(0.5, 500), st.floats(1, 20))
def test_arrivals_come_evenly_and_in_time(rate: float, duration_s: float) -> None:
    arrivals = arrivals_s(rate, duration_s)
    assert abs(len(arrivals) - rate * duration_s) <= 1
    assert 0 <= arrivals[-1] < duration_s
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert gaps == pytest.approx([1 / rate] * len(gaps))


@pytest.mark.parametrize(("rate", "duration_s"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_is_none_is_refused(rate: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        arrivals_s(rate, duration_s)


def test_batches_are_read_as_the_service_writes_them() -> None:
    telemetry = Telemetry()
    before = batches(telemetry.render().decode())
    telemetry.batch(1, {"interactive": [0.0]}, 0.1)
    telemetry.batch(4, {"bulk": [0.0] * 4}, 0.1)
    after = batches(telemetry.render().decode())
    assert (before, after) == ((0, 0), (2, 5))
    assert mean_batch(before, after) == 2.5
    assert math.isnan(mean_batch(after, after))


def test_answers_by_hand() -> None:
    answers = Answers(Counter({200: 6, 429: 3, 500: 1, 503: 2, 0: 4}), faces=6, span_s=1.5)
    assert answers.faces_per_s() == 4
    assert answers.of_class(5) == 3


def test_answers_add_up() -> None:
    first = Answers(Counter({200: 2, 429: 1}), Counter(ReadError=1), [0.1, 0.2], faces=2, span_s=1)
    both = first + Answers(Counter({200: 1}), Counter(ReadError=2), [0.3], faces=4, span_s=2)
    assert both == Answers(Counter({200: 3, 429: 1}), Counter(ReadError=3), [0.1, 0.2, 0.3], faces=6, span_s=3)
    assert both.faces_per_s() == 2


def test_each_answer_is_counted_as_what_it_was() -> None:
    replies = iter([200, 429, 503, None])

    def reply(request: httpx2.Request) -> httpx2.Response:
        status = next(replies)
        if status is None:
            raise httpx2.ConnectError("refused")
        headers = {"Retry-After": "3"} if status == 429 else {}
        return httpx2.Response(status, json={"faces": [{}]}, headers=headers)

    async def send() -> Answers:
        answers = Answers()
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply)) as http:
            waits = [await ask(http, b"picture", answers, 0) for _ in range(4)]
        assert waits == [0, 3, 0, 0]
        return answers

    answers = asyncio.run(send())
    assert answers.statuses == {200: 1, 429: 1, 503: 1, 0: 1}
    assert answers.failures == {"ConnectError": 1}
    assert (len(answers.seconds), answers.faces) == (1, 1)


def test_a_client_that_would_come_back_after_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, headers={"Retry-After": "3600"})

    monkeypatch.setattr(load, "client", lambda: httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)))
    answers = asyncio.run(load.closed_loop([b"picture"], clients=2, duration_s=0.05))
    assert answers.statuses == {429: 2}
    assert 0.05 <= answers.span_s < 3600
