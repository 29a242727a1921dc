from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.tracking import IouTracker
from tests.fakes import face_at


def ids(tracker: IouTracker, places: list[tuple[float, float]], time_s: float) -> list[int]:
    """Track ids after an update with faces of 10 x 10 pixels at `places`."""
    return [tracked.track_id for tracked in tracker.update([face_at(x, y) for x, y in places], time_s)]


def test_ids_start_at_one_in_the_order_of_the_faces() -> None:
    assert ids(IouTracker(), [(50, 0), (0, 0)], 0) == [1, 2]


def test_a_moving_face_keeps_its_id() -> None:
    tracker = IouTracker()
    assert [ids(tracker, [(2 * i, i)], i / 25) for i in range(20)] == [[1]] * 20


def test_order_and_faces_are_kept() -> None:
    tracker = IouTracker()
    tracker.update([face_at(0, 0), face_at(100, 0)], 0)
    faces = [face_at(101, 0), face_at(300, 0), face_at(1, 0)]
    tracked = tracker.update(faces, 0.1)
    assert [t.face for t in tracked] == faces
    assert [t.track_id for t in tracked] == [2, 3, 1]


def test_an_id_is_kept_over_a_gap() -> None:
    tracker = IouTracker(max_gap_s=1.0)
    assert ids(tracker, [(0, 0)], 0) == [1]
    assert ids(tracker, [], 0.5) == []
    assert ids(tracker, [(1, 0)], 1.0) == [1]


def test_an_id_ends_with_a_longer_gap_and_is_never_reused() -> None:
    tracker = IouTracker(max_gap_s=1.0)
    assert ids(tracker, [(0, 0)], 0) == [1]
    assert ids(tracker, [], 0.9) == []
    assert ids(tracker, [(0, 0)], 1.01) == [2]


def test_a_face_elsewhere_is_another_one() -> None:
    tracker = IouTracker(min_iou=0.2)
    ids(tracker, [(0, 0)], 0)
    # Shifts of 10 pixels' side: 6 overlap by 40 / 160 = .25, 7 by 30 / 170 = .18.
    assert ids(tracker, [(6, 0)], 0.1) == [1]
    assert ids(tracker, [(13, 0)], 0.2) == [2]


def test_crossing_faces_keep_their_ids() -> None:
    # One walks right, one left, four pixels apart in height; the list's order changes on the way.
    tracker = IouTracker()
    for i in range(31):
        right, left = (i, 0.0), (30 - i, 4.0)
        if i % 3 == 2:
            assert ids(tracker, [left, right], i / 25) == [2, 1]
        else:
            assert ids(tracker, [right, left], i / 25) == [1, 2]


def test_the_best_pair_wins() -> None:
    tracker = IouTracker()
    ids(tracker, [(0, 0)], 0)
    assert ids(tracker, [(4, 0), (1, 0)], 0.1) == [2, 1]


places = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5)


@given(st.lists(st.tuples(places, st.floats(0, 0.8)), max_size=8))
def test_ids_are_unique_in_a_frame_and_only_grow(frames: list[tuple[list[tuple[int, int]], float]]) -> None:
    tracker = IouTracker()
    time_s = 0.0
    alive: dict[int, float] = {}
    highest = 0
    for faces, gap_s in frames:
        time_s += gap_s
        given_ids = ids(tracker, list(faces), time_s)
        assert len(set(given_ids)) == len(faces)
        for track_id in given_ids:
            if track_id in alive:
                assert time_s - alive[track_id] <= 1.0
            else:
                assert track_id == highest + 1
                highest = track_id
            alive[track_id] = time_s


def test_live_ids_are_those_that_may_still_get_faces() -> None:
    tracker = IouTracker(max_gap_s=1.0)
    assert tracker.live_ids == set()
    ids(tracker, [(0, 0), (100, 0)], 0)
    ids(tracker, [(0, 0)], 1.0)
    assert tracker.live_ids == {1, 2}
    ids(tracker, [(200, 0)], 1.5)  # the second track has had no face for 1.5 s
    assert tracker.live_ids == {1, 3}
    assert ids(tracker, [(100, 0), (0, 0)], 1.5) == [4, 1]


@given(st.lists(st.tuples(places, st.floats(0, 0.8)), max_size=8))
def test_an_id_that_is_not_live_is_not_given_again(frames: list[tuple[list[tuple[int, int]], float]]) -> None:
    tracker, time_s = IouTracker(), 0.0
    seen: set[int] = set()
    for faces, gap_s in frames:
        ended = seen - tracker.live_ids
        time_s += gap_s
        given_ids = set(ids(tracker, list(faces), time_s))
        assert not given_ids & ended
        assert given_ids <= tracker.live_ids
        seen |= given_ids


def test_sparse_frames_keep_their_ids() -> None:
    tracker = IouTracker(max_gap_s=1.0)
    found = [ids(tracker, [(10, 10)], time_s) for time_s in (0.0, 1.001, 3.5, 60.0)]
    assert found == [[1], [1], [1], [1]]
