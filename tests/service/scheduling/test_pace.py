import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.pace import MovingAverage

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
