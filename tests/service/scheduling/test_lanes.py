from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.lanes import Lane, LaneQueue


def test_requests_take_turns_and_entries_without_a_request_leave_in_order_of_arrival() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    for key in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.push(Lane.INTERACTIVE, key, 0, key[0])
    queue.push(Lane.BULK, "x", 1)
    queue.push(Lane.BULK, "y", 2)
    assert (len(queue), queue.requests(Lane.INTERACTIVE), queue.requests(Lane.BULK)) == (8, 3, 2)
    queue.discard("a2")
    queue.discard("not there")
    assert [queue.pop(Lane.INTERACTIVE)[0] for _ in range(5)] == ["a1", "b1", "c1", "a3", "c2"]
    assert [queue.pop(Lane.BULK) for _ in range(2)] == [("x", 1), ("y", 2)]
    assert (len(queue), queue.requests(Lane.INTERACTIVE), queue.depth(Lane.BULK)) == (0, 0, 0)
    with pytest.raises(KeyError):
        queue.pop(Lane.BULK)


@given(st.lists(st.one_of(st.integers(1, 70), st.none()), max_size=60))
def test_no_request_waits_for_more_than_one_entry_of_another(steps: "list[int | None]") -> None:
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
            assert max(left_before[request].values(), default=0) <= 1
            left_before[request] = Counter()
            for other in waiting:
                if other != request and waiting[other]:
                    left_before[other][request] += 1
    assert len(queue) == waiting.total()
