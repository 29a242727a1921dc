import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.choreography import Scene, scenes
from benchmarks.tracks import score
from model_core.faces.tracking import FaceTracker
from tests.fakes import face_at

SCENES = {scene.name: scene for scene in scenes()}


def ids(tracker: FaceTracker, places: list[tuple[float, float]], time_s: float) -> list[int]:
    """Track ids after an update with faces of 10 x 10 pixels at `places`."""
    return [tracked.track_id for tracked in tracker.update([face_at(x, y) for x, y in places], time_s)]


def test_ids_start_at_one_in_the_order_of_the_faces() -> None:
    assert ids(FaceTracker(), [(50, 0), (0, 0)], 0) == [1, 2]


def test_a_moving_face_keeps_its_id() -> None:
    tracker = FaceTracker()
    assert [ids(tracker, [(2 * i, i)], i / 25) for i in range(20)] == [[1]] * 20


def test_a_face_without_an_area_has_an_id() -> None:
    tracker = FaceTracker()
    assert [tracker.update([face_at(8, 8, 0)], i / 10)[0].track_id for i in range(3)] == [1, 1, 1]


def test_order_and_faces_are_kept() -> None:
    tracker = FaceTracker()
    tracker.update([face_at(0, 0), face_at(100, 0)], 0)
    faces = [face_at(101, 0), face_at(300, 0), face_at(1, 0)]
    tracked = tracker.update(faces, 0.1)
    assert [t.face for t in tracked] == faces
    assert [t.track_id for t in tracked] == [2, 3, 1]


def test_an_id_is_kept_over_a_gap() -> None:
    tracker = FaceTracker(max_gap_s=1.0)
    assert ids(tracker, [(0, 0)], 0) == [1]
    assert ids(tracker, [], 0.5) == []
    assert ids(tracker, [(1, 0)], 1.0) == [1]


def test_an_id_ends_with_a_longer_gap_and_is_never_reused() -> None:
    tracker = FaceTracker(max_gap_s=1.0)
    assert ids(tracker, [(0, 0)], 0) == [1]
    assert ids(tracker, [], 0.9) == []
    assert ids(tracker, [(0, 0)], 1.01) == [2]


def test_a_face_elsewhere_is_another_one() -> None:
    # A face that jumps may have come .25 sides and 10 sides a second: 1.25 sides of 10 pixels in 0.1 s.
    for distance, expected in ((12, 1), (13, 2)):
        tracker = FaceTracker()
        ids(tracker, [(0, 0)], 0)
        assert ids(tracker, [(distance, 0)], 0.1) == [expected]


def test_a_face_of_another_size_is_another_one() -> None:
    tracker = FaceTracker()
    tracker.update([face_at(0, 0, 10)], 0)
    [tracked] = tracker.update([face_at(-10, -10, 30)], 0.1)
    assert tracked.track_id == 2


@pytest.mark.parametrize("fps", [5, 10, 25])
def test_a_fast_face_keeps_its_id_at_every_frame_rate(fps: int) -> None:
    # Four sides a second: at 5 frames/s, consecutive boxes of 10 pixels are 8 apart.
    tracker = FaceTracker()
    assert [ids(tracker, [(40 * i / fps, 0)], i / fps) for i in range(4 * fps)] == [[1]] * (4 * fps)


@pytest.mark.parametrize("fps", [5, 10, 25])
@pytest.mark.parametrize("hidden_s", [0.5, 1.5])
def test_two_who_meet_and_part_keep_their_ids_though_one_is_hidden(fps: int, hidden_s: float) -> None:
    # Centres are less than half a side of 10 pixels apart for `hidden_s`: one is not seen then.
    tracker = FaceTracker()
    speed = 5 / hidden_s
    for i in range(round(6 * fps)):
        time_s = i / fps
        right, left = (speed * (time_s - 3), 0.0), (speed * (3 - time_s), 0.0)
        if abs(right[0] - left[0]) < 5:
            assert ids(tracker, [right], time_s) == [1]
        else:
            assert ids(tracker, [right, left], time_s) == [1, 2]


def test_a_row_that_the_camera_shakes_keeps_its_ids() -> None:
    # The shake of 0.9 sides brings every face nearer to where its neighbour was than to where it was itself.
    tracker = FaceTracker()
    for i in range(20):
        shake = 9 * (i % 2)
        assert ids(tracker, [(16 * place + shake, 0) for place in range(5)], i / 10) == [1, 2, 3, 4, 5]


def test_match_tells_what_an_update_will_do_and_changes_nothing() -> None:
    tracker = FaceTracker()
    ids(tracker, [(0, 0)], 0)
    faces = [face_at(1, 0), face_at(100, 0)]
    assert tracker.match(faces, 0.1) == [1, None]
    assert tracker.match(faces, 0.1) == [1, None]
    assert [tracked.track_id for tracked in tracker.update(faces, 0.1)] == [1, 2]


def test_after_the_end_of_all_tracks_every_face_is_new() -> None:
    tracker = FaceTracker()
    assert ids(tracker, [(0, 0), (50, 0)], 0) == [1, 2]
    tracker.end_all()
    assert tracker.live_ids == set()
    assert ids(tracker, [(0, 0), (50, 0)], 0.1) == [3, 4]


def test_crossing_faces_keep_their_ids() -> None:
    # One walks right, one left, four pixels apart in height; the list's order changes on the way.
    tracker = FaceTracker()
    for i in range(31):
        right, left = (i, 0.0), (30 - i, 4.0)
        if i % 3 == 2:
            assert ids(tracker, [left, right], i / 25) == [2, 1]
        else:
            assert ids(tracker, [right, left], i / 25) == [1, 2]


def test_the_best_pair_wins() -> None:
    tracker = FaceTracker()
    ids(tracker, [(0, 0)], 0)
    assert ids(tracker, [(4, 0), (1, 0)], 0.1) == [2, 1]


places = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5)


@given(st.lists(st.tuples(places, st.floats(0, 0.8)), max_size=8))
def test_ids_are_unique_in_a_frame_and_only_grow(frames: list[tuple[list[tuple[int, int]], float]]) -> None:
    tracker = FaceTracker(max_gap_s=1.0)
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
    tracker = FaceTracker(max_gap_s=1.0)
    assert tracker.live_ids == set()
    ids(tracker, [(0, 0), (100, 0)], 0)
    ids(tracker, [(0, 0)], 1.0)
    assert tracker.live_ids == {1, 2}
    ids(tracker, [(200, 0)], 1.5)  # the second track has had no face for 1.5 s
    assert tracker.live_ids == {1, 3}
    assert ids(tracker, [(100, 0), (0, 0)], 1.5) == [4, 1]


@given(st.lists(st.tuples(places, st.floats(0, 0.8)), max_size=8))
def test_an_id_that_is_not_live_is_not_given_again(frames: list[tuple[list[tuple[int, int]], float]]) -> None:
    tracker, time_s = FaceTracker(), 0.0
    seen: set[int] = set()
    for faces, gap_s in frames:
        ended = seen - tracker.live_ids
        time_s += gap_s
        given_ids = set(ids(tracker, list(faces), time_s))
        assert not given_ids & ended
        assert given_ids <= tracker.live_ids
        seen |= given_ids


def test_sparse_frames_keep_their_ids() -> None:
    tracker = FaceTracker(max_gap_s=1.0)
    found = [ids(tracker, [(10, 10)], time_s) for time_s in (0.0, 1.001, 3.5, 60.0)]
    assert found == [[1], [1], [1], [1]]
    assert ids(tracker, [(18, 10)], 90.0) == [2]  # more than three quarters of a side away


@pytest.mark.parametrize("scene", [scene for scene in SCENES.values() if not scene.hard], ids=lambda scene: scene.name)
def test_easy_scenes_have_no_switch(scene: Scene) -> None:
    for fps in (10, 25):
        told = score(scene, fps, FaceTracker, seeds=(7,))
        assert (told.switches, told.idf1) == (0, 1.0)


@pytest.mark.parametrize("fps", [5, 10, 25])
def test_hard_scenes_have_an_idf1_of_95_per_cent(fps: int) -> None:
    told = [score(scene, fps, FaceTracker, seeds=(7,)).idf1 for scene in SCENES.values() if scene.hard]
    assert sum(told) / len(told) >= 0.95
