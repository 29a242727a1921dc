"""How what was found is brought onto a frame, and how progress is shared between readings."""

from types import SimpleNamespace

import numpy as np
import pytest

from model_core.faces.geometry import Box
from service.media.videos import MediaInfo, TimedFrame, Window
from service.output.annotation.hiding import HiddenPlaces
from service.output.annotation.samples import Between, Mark, Sample
from service.output.annotation.video import AnnotationOptions, Progress, _Retouch, milliseconds

NOISE = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)


def retouched(retouch: _Retouch, time_s: float = 0.0, width: int = 100) -> np.ndarray:
    """The frame after it; `width`: that of the frame before it was brought to the size of the first one."""
    frame = NOISE.copy()
    source = SimpleNamespace(info=MediaInfo(width, width))
    retouch.apply(TimedFrame(frame, time_s, 0), source)  # type: ignore[arg-type]
    return frame


def places(*boxes: Box) -> HiddenPlaces:
    return HiddenPlaces(iter([Sample(0.0, 0, tuple(Mark(i, box) for i, box in enumerate(boxes, 1)))]))


def changed(frame: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((frame != NOISE).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_frame_of_another_size_has_its_faces_hidden_where_they_are_now() -> None:
    box = Box(40, 40, 20, 20)  # with 30 per cent on each side, from 34 to 66
    assert changed(retouched(_Retouch(None, None, places(box)))) == (34, 34, 66, 66)
    assert changed(retouched(_Retouch(None, None, places(box)), width=200)) == (17, 17, 33, 33)


def test_a_frame_that_was_not_searched_is_hidden_as_a_whole() -> None:
    frame = retouched(_Retouch(None, None, places(Box(40, 40, 20, 20))), time_s=0.5)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 1


def test_the_analysed_faces_are_hidden_too() -> None:
    marks = Between(iter([Sample(0.0, 0, (Mark(1, Box(40, 40, 20, 20)),))]))
    assert changed(retouched(_Retouch(None, marks, places()))) == (34, 34, 66, 66)


def test_progress_is_shared_by_what_readings_cost() -> None:
    told: list[float] = []
    progress = Progress(Window(), lambda info: [300.0, 100.0], told.append)
    info = MediaInfo(8, 8, 10.0, start_s=2.0, duration_s=10.0)
    progress.at(7.0, info)
    progress.next_reading()
    progress.at(7.0, info)
    progress.at(99.0, info)
    progress.at(99.0, MediaInfo(8, 8))  # whose length is not known
    assert told == pytest.approx([0.375, 0.875, 1.0, 0.75])


def test_large_frames_weigh_in_the_rendering_alone() -> None:
    def shares(info: MediaInfo, fps: float) -> list[float]:
        options = AnnotationOptions("video/mp4", hides_faces=True)
        return milliseconds(options, Window(fps=fps), info)

    assert shares(MediaInfo(320, 240, 10.0), 5) == pytest.approx([200, 300, 10 + 11.52])
    assert shares(MediaInfo(1280, 720, 10.0), 50) == pytest.approx([400, 300, 10 + 138.24])
    assert milliseconds(AnnotationOptions("video/mp4", draws=False), Window(), MediaInfo(0, 0)) == [25.0]
