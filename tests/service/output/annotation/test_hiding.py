"""What is hidden of a frame, also where no face was found in it."""

import numpy as np
import pytest

from model_core.faces.geometry import Box, Face, Frame
from service.media.videos import TimedFrame
from service.output.annotation.hiding import (
    DRIFT,
    GROWTH,
    HOLD_S,
    FaceSearch,
    HiddenPlaces,
    grown,
    hide,
    hide_all,
    parts_of,
)
from service.output.annotation.samples import Mark, Sample
from tests.service.fakes import face_at


def samples(found: dict[int, dict[int, Box]], frames: int, fps: float = 10) -> list[Sample]:
    """Samples of all frames; `found`: boxes by track, by frame."""
    return [
        Sample(number / fps, number, tuple(Mark(i, box) for i, box in found.get(number, {}).items()))
        for number in range(frames)
    ]


def hidden(found: dict[int, dict[int, Box]], frames: int, fps: float = 10) -> list[list[Box]]:
    places = HiddenPlaces(iter(samples(found, frames, fps)))
    given = [places.at(number / fps) for number in range(frames)]
    assert None not in given
    return [boxes for boxes in given if boxes is not None]


BOX = Box(100, 100, 50, 50)
AT_FACE = grown(BOX, GROWTH)


def test_a_found_face_is_hidden_with_its_surroundings() -> None:
    assert hidden({0: {1: BOX}}, 1) == [[Box(85, 85, 80, 80)]]


def test_a_place_is_hidden_before_and_after_its_face() -> None:
    boxes = hidden({20: {1: BOX}}, 40)
    assert boxes[20] == [AT_FACE]
    frames = [number for number, each in enumerate(boxes) if each]
    assert frames == list(range(15, 26))  # half a second on both sides
    assert boxes[15] == boxes[25] == [grown(BOX, GROWTH + DRIFT * HOLD_S)]


def test_a_slow_source_has_its_neighbours_hidden() -> None:
    frames = [number for number, each in enumerate(hidden({5: {1: BOX}}, 10, fps=0.2)) if each]
    assert frames == [3, 4, 5, 6, 7]


def test_a_frame_between_two_faces_of_a_track_hides_all_of_the_way() -> None:
    boxes = hidden({0: {1: BOX}, 12: {1: Box(200, 100, 50, 50)}}, 13)
    way = grown(Box(100, 100, 150, 50), GROWTH)
    assert boxes[0] == [AT_FACE]
    assert boxes[1:12] == [[way]] * 11


def test_every_one_of_many_faces_is_hidden() -> None:
    many = {track: Box(10 * track, 0, 8, 8) for track in range(1, 101)}
    assert len(hidden({0: many, 1: many}, 2)[1]) == 100


def test_a_frame_that_was_not_searched_is_told() -> None:
    places = HiddenPlaces(iter(samples({0: {1: BOX}}, 3)))
    assert places.at(0.0) == [AT_FACE]
    assert places.at(0.05) is None
    assert places.at(0.1) is not None
    assert places.at(7.0) is None


def test_little_is_in_memory() -> None:
    places = HiddenPlaces(iter(samples({number: {number: BOX} for number in range(600)}, 600)))
    for number in range(600):
        places.at(number / 10)
        assert len(places._ahead) + len(places._tracks) < 60


def test_a_place_becomes_one_colour_of_which_nothing_can_be_read() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    before = frame.copy()
    hide(frame, Box(-5, 10, 25, 50))
    assert (frame[10:, :20] == np.round(before[10:, :20].mean((0, 1)))).all()
    assert (frame[:10] == before[:10]).all()
    assert (frame[:, 20:] == before[:, 20:]).all()
    hide(frame, Box(100, 100, 5, 5))  # outside
    hide_all(frame)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (3840, 2160), (2000, 300), (641, 641)])
def test_the_parts_cover_a_frame_and_overlap(width: int, height: int) -> None:
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in parts_of(width, height):
        assert max(right - left, bottom - top) <= -(-max(width, height) // 2)
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert covered.max() >= 2


def test_a_small_frame_is_searched_as_a_whole() -> None:
    assert parts_of(640, 480) == []


def test_the_search_looks_everywhere_ten_times_a_second() -> None:
    looked: list[tuple[tuple[int, ...], bool]] = []
    corner = face_at(700, 400, 20)  # (300, 200) in the part that begins at (400, 200)

    def search(frame: Frame, thorough: bool) -> list[Face]:
        looked.append((frame.shape[:2], thorough))
        # It finds the small face where it looks at the lower right part only.
        return [face_at(300, 200, 20)] if frame.shape[:2] == (400, 400) and frame[-1, -1, 0] else []

    frame = np.zeros((600, 800, 3), np.uint8)
    frame[-1, -1] = 255
    find = FaceSearch(search)
    found = [find(TimedFrame(frame, number / 20, number)) for number in range(4)]
    assert [len(sample.faces) for sample in found] == [1, 0, 1, 0]
    assert found[0].faces[0] == Mark(1, corner.box)
    assert found[2].faces[0].track_id == 1
    assert [thorough for shape, thorough in looked if shape == (600, 800)] == [False, True, False, False, True, False]
