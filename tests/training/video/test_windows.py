import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.video.windows import segments, windows


def lists(parts: list[np.ndarray]) -> list[list[int]]:
    return [part.tolist() for part in parts]


def test_a_gap_ends_a_segment() -> None:
    present = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], dtype=bool)
    # At 10 frames a second, neighbours are 0.1 s apart, and those around one missing frame 0.2 s.
    assert lists(segments(present, 10, 0.1)) == [[0, 1], [3, 4, 5], [8]]
    assert lists(segments(present, 10, 0.2)) == [[0, 1, 3, 4, 5], [8]]
    assert lists(segments(present, 10, 0.3)) == [[0, 1, 3, 4, 5, 8]]


def test_neighbours_are_together_at_any_rate() -> None:
    assert lists(segments(np.ones(3, dtype=bool), 30, 0.001)) == [[0, 1, 2]]


def test_a_video_without_a_picture_has_no_segment() -> None:
    assert segments(np.zeros(4, dtype=bool), 30, 0.1) == []


@pytest.mark.parametrize(
    ("length", "stride", "cut"),
    [
        (4, 4, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (4, 2, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]),
        (12, 5, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
        (1, 3, [[0], [3], [6], [9]]),
    ],
)
def test_windows_of_ten_frames(length: int, stride: int, cut: list[list[int]]) -> None:
    assert lists(windows([np.arange(10)], length, stride)) == cut


@given(
    present=st.lists(st.booleans(), max_size=60),
    gap=st.integers(1, 5),
    length=st.integers(1, 20),
    data=st.data(),
)
def test_each_frame_is_in_a_window_and_no_window_crosses_a_gap(
    present: list[bool], gap: int, length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, length))
    seen = np.array(present, dtype=bool)
    parts = segments(seen, 10, gap / 10)
    cut = windows(parts, length, stride)
    assert sorted({index for part in cut for index in part.tolist()}) == np.flatnonzero(seen).tolist()
    for part in cut:
        assert 1 <= len(part) <= length
        assert (np.diff(part) <= gap).all()
        assert (np.diff(part) > 0).all()
