"""What is drawn, where, and in which colour."""

import numpy as np
import pytest

from model_core.faces.geometry import Box, Frame
from service.output.annotation.drawing import COLOURS, MOST_BINS, Painter, TimeLine
from service.output.annotation.samples import Mark, Sample


def line(count: int = 20, valence: float = 1.0, end_s: float = 10.0) -> TimeLine:
    marks = (Mark(1, Box(0, 0, 9, 9), valence=valence, arousal=0.0),)
    samples = [Sample(end_s * number / (count - 1), number, marks) for number in range(count)]
    return TimeLine(samples, 0.0, end_s, count)


def drawn(marks: list[Mark], time_s: float = 0.0, size: tuple[int, int] = (640, 360)) -> Frame:
    frame = np.full((size[1], size[0], 3), 128, np.uint8)
    Painter(line()).draw(frame, marks, time_s)
    return frame


def is_coloured(frame: Frame, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((np.abs(frame.astype(int) - colour) < 40).all(axis=2))


def test_a_box_is_where_its_face_is_in_the_colour_of_its_track() -> None:
    frame = drawn([Mark(2, Box(200, 100, 80, 90))])
    rows, columns = np.nonzero(is_coloured(frame, COLOURS[1]))
    assert (columns.min(), columns.max(), rows.max()) == (199, 281, 191)  # lines are two pixels wide, and smooth
    assert 70 <= rows.min() < 100  # the id stands above it
    assert (frame[120:160, 220:260] == 128).all()  # the face itself is left as it is


@pytest.mark.parametrize(("valence", "arousal"), [(1.0, 1.0), (-1.0, -1.0), (0.0, 0.0), (7.0, float(-7))])
def test_the_dot_is_at_valence_and_arousal(valence: float, arousal: float) -> None:
    frame = drawn([Mark(1, Box(200, 100, 80, 90), None, valence, arousal)])
    side = 360 // 9
    plane = is_coloured(frame[100 : 100 + side, 282 : 282 + side], COLOURS[0])
    rows, columns = np.nonzero(plane)
    x, y = (columns.mean() - side / 2) / (side / 2), (side / 2 - rows.mean()) / (side / 2)
    assert np.sign(round(x, 0)) == np.sign(valence)
    assert np.sign(round(y, 0)) == np.sign(arousal)


def test_active_units_stand_below_and_others_do_not() -> None:
    with_units = drawn([Mark(1, Box(200, 100, 80, 90), units=("AU6", "AU12"))])
    without = drawn([Mark(1, Box(200, 100, 80, 90))])
    below = slice(194, 215)
    assert (with_units[below, 200:300] > 200).any()
    assert (without[below, 200:300] == 128).all()


@pytest.mark.parametrize(
    "box", [Box(-30, -30, 60, 60), Box(600, 320, 90, 90), Box(0, 0, 640, 360), Box(300, 340, 4, 4)]
)
@pytest.mark.parametrize("size", [(640, 360), (64, 48), (2, 2)])
def test_nothing_falls_out_of_the_frame(box: Box, size: tuple[int, int]) -> None:
    units = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
    frame = drawn([Mark(1, box, "happiness", 0.3, 0.3, units)], 5.0, size)
    assert frame.shape == (size[1], size[0], 3)
    assert not (frame == 128).all()


@pytest.mark.parametrize(("time_s", "place"), [(0.0, 0.0), (5.0, 0.5), (10.0, 1.0), (12.0, 1.0)])
def test_the_time_line_shows_where_the_video_is(time_s: float, place: float) -> None:
    frame = drawn([], time_s)
    columns = np.nonzero((frame[-3] > 240).all(axis=1))[0]
    assert columns.mean() == pytest.approx(place * 639, abs=2)


def test_the_curve_is_the_mean_valence() -> None:
    short = line(count=20)
    assert len(short.valence) == 10
    assert (short.valence == 1).all()
    long = line(count=5000, valence=-0.5)
    assert len(long.valence) == MOST_BINS
    assert np.allclose(long.valence, -0.5)
    empty = TimeLine([Sample(0.0, 0), Sample(1.0, 1)], 0.0, 1.0, 2)
    assert np.isnan(empty.valence).all()
    Painter(empty).draw(np.zeros((400, 400, 3), np.uint8), (), 0.5)
