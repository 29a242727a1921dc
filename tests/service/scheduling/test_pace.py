import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.pace import MovingAverage, Pace

VALUES = st.floats(1e-3, 1e3)


def test_by_hand() -> None:
    average = MovingAverage()
    assert average.value == 0
    average.note(10)
    assert average.value == 10
    average.note(20)
    assert average.value == pytest.approx(11)  # 0.9 of 10, 0.1 of 20
    average.note(0, weight=2)
    assert average.value == pytest.approx(0.81 * 11)


def test_one_outlier_moves_a_bounded_average_little() -> None:
    average = MovingAverage(most=4)
    average.note(0.01)
    average.note(30)
    assert average.value == pytest.approx(0.013)  # 0.9 of 0.01, 0.1 of 0.04


def test_an_average_of_nothing_can_rise() -> None:
    average = MovingAverage(most=4)
    for value in (0, 5):
        average.note(value)
    assert average.value == pytest.approx(0.5)


@given(st.lists(st.tuples(VALUES, st.integers(1, 32)), min_size=1), st.sampled_from([4.0, float("inf")]))
def test_it_stays_between_the_least_and_the_largest(notes: list[tuple[float, int]], most: float) -> None:
    average = MovingAverage(most)
    for value, weight in notes:
        average.note(value, weight)
    values = [value for value, _ in notes]
    assert min(values) * (1 - 1e-9) <= average.value <= max(values) * (1 + 1e-9)


@given(VALUES, VALUES)
def test_a_pace_that_has_changed_is_learned(before: float, after: float) -> None:
    average = MovingAverage(most=4)
    for value in [before] * 3 + [after] * 200:
        average.note(value)
    assert average.value == pytest.approx(after, rel=0.1)


def after(*works: tuple[float, int, int]) -> Pace:
    """A pace that has seen times of work, at the end of each of which units were completed of those under way."""
    pace = Pace()
    for work_s, units, under_way in works:
        pace.passed(work_s)
        pace.completed(units, under_way)
    return pace


def test_a_pace_by_hand() -> None:
    assert Pace().value == 0
    assert after((0.1, 1, 1)).value == pytest.approx(0.1)
    kept = math.exp(-0.02 / 4)
    assert after((0.01, 1, 1), (0.02, 1, 1)).value == pytest.approx((0.01 * kept + 0.02) / (kept + 1))
    assert after((0.1, 1, 1), (0.5, 5, 5)).value == pytest.approx(0.1)
    # Of slow units the last twenty or so count, not those of four seconds.
    kept = math.exp(-1 / 20)
    assert after((3, 1, 1), (6, 1, 1)).value == pytest.approx((3 * kept + 6) / (kept + 1))


@pytest.mark.parametrize("together", [1, 8, 32])
@pytest.mark.parametrize("waiting", [0, 50, 500])
def test_neither_batches_nor_those_who_wait_change_a_pace(together: int, waiting: int) -> None:
    batch = [(0.02 * together, 1, together + waiting), *[(0.0, 1, waiting + 1)] * (together - 1)]
    pace = after(*batch * (640 // together))
    assert pace.value == pytest.approx(0.02, rel=0.1)


def test_a_queue_that_grows_does_not_look_fast() -> None:
    # 100 come each second and 50 are answered, so from the first answer on their number grows.
    pace = after(*((0.02, 1, 1 + answered) for answered in range(300)))
    assert pace.value == pytest.approx(0.02)


@pytest.mark.parametrize("under_way", [1, 10])
def test_a_process_that_was_stopped_costs_few_their_turn(under_way: int) -> None:
    usual = [(0.01, 1, under_way)] * 1000
    assert after(*usual, (3600, 1, under_way)).value <= 0.01 * (1 + 4 * under_way / 100)
    assert after(*usual, (3600, 1, under_way), *usual[:500]).value == pytest.approx(0.01, rel=0.05 * under_way)


@given(st.floats(0.02, 1), st.floats(0.02, 50))
def test_a_changed_pace_is_learned(before: float, now: float) -> None:
    pace = after(*[(before, 1, 1)] * 3, *[(now, 1, 1)] * math.ceil(3 * max(20, 4 / now)))
    assert pace.value == pytest.approx(now, rel=0.2)


def test_a_pace_of_nothing_can_rise() -> None:
    assert after((0, 1, 1), (5, 1, 1)).value > 1
