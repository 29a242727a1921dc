from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.lanes import Lane, LaneQueue, first_in_turn


def test_requests_take_turns_and_entries_without_a_request_leave_in_order_of_arrival() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    for key in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.push(Lane.INTERACTIVE, key, 0, key[0])
    queue.push(Lane.BULK, "x", 1)
    queue.push(Lane.BULK, "y", 2)
    assert (len(queue), queue.fresh(Lane.INTERACTIVE), queue.fresh(Lane.BULK)) == (8, 3, 2)
    queue.discard("a2")
    queue.discard("not there")
    assert [queue.pop(Lane.INTERACTIVE)[0] for _ in range(5)] == ["a1", "b1", "c1", "a3", "c2"]
    assert [queue.pop(Lane.BULK) for _ in range(2)] == [("x", 1), ("y", 2)]
    assert (len(queue), queue.fresh(Lane.INTERACTIVE), queue.begun(Lane.INTERACTIVE)) == (0, 0, 0)
    with pytest.raises(KeyError):
        queue.pop(Lane.BULK)


def test_requests_that_have_had_nothing_go_first_in_three_of_four_turns() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    for number in range(5):
        queue.push(Lane.INTERACTIVE, f"large {number}", number, "large")
    assert queue.pop(Lane.INTERACTIVE) == ("large 0", 0)
    for name in "abcdef":
        queue.push(Lane.INTERACTIVE, name, 0)
    assert (queue.fresh(Lane.INTERACTIVE), queue.begun(Lane.INTERACTIVE)) == (6, 1)
    left = [queue.pop(Lane.INTERACTIVE)[0] for _ in range(10)]
    # The first entry of the large request was one of the three.
    assert left == ["a", "b", "large 1", "c", "d", "e", "large 2", "f", "large 3", "large 4"]


@given(st.lists(st.one_of(st.integers(1, 70), st.none()), max_size=60))
def test_no_request_waits_for_more_than_two_entries_of_another(steps: "list[int | None]") -> None:
    """A step is the number of entries of a request that arrives, or three entries that leave."""
    queue: LaneQueue[tuple[int, int], None] = LaneQueue()
    left_before: dict[int, Counter[int]] = {}
    waiting: Counter[int] = Counter()
    for arrival, step in enumerate(steps):
        if step is not None:
            for place in range(step):
                queue.push(Lane.INTERACTIVE, (arrival, place), None, arrival)
            waiting[arrival] = step
            left_before[arrival] = Counter()
            continue
        for _ in range(min(3, len(queue))):
            (request, _), _ = queue.pop(Lane.INTERACTIVE)
            waiting[request] -= 1
            # One as a request that has had nothing, and one in its turn.
            assert max(left_before[request].values(), default=0) <= 2
            left_before[request] = Counter()
            for other in waiting:
                if other != request and waiting[other]:
                    left_before[other][request] += 1
    assert len(queue) == waiting.total()


def test_of_the_lanes_that_wait_each_later_one_gets_a_sixteenth_of_what_the_earlier_ones_leave() -> None:
    lanes = list(Lane)
    turns = Counter(first_in_turn(lanes, turn) for turn in range(1, 16**3 + 1))
    assert turns == {Lane.INTERACTIVE: 15 * 256, Lane.LIVE: 15 * 16, Lane.BULK: 15, Lane.BACKGROUND: 1}
    assert {first_in_turn([Lane.BULK], turn) for turn in range(1, 40)} == {Lane.BULK}
