"""Reading a source in chunks: how many frames, and that a reader which is cancelled lets its decoder go."""

import threading
from collections.abc import Generator
from threading import Event
from typing import Any

import numpy as np
import pytest

from model_core.faces.geometry import TrackedFace
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality, sharpness
from model_core.preprocessing import InputSpec
from service.analysis.locating import CHUNK_FACES, CHUNK_FRAMES, FrameReader, LocatedFace, LocatedFrame, Locator
from service.errors import UndecodableMedia
from service.media.sources import Source
from service.media.videos import MediaInfo, TimedFrame
from service.telemetry import StageClock, Telemetry
from tests.service.fakes import FakeDetector, face_at
from tests.service.scheduling.clocks import ManualClock


class CountedSource:
    """So many black frames; tells whether it is open, and fails or waits at a frame if asked to."""

    info = MediaInfo(8, 8)
    truncated = False

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count = count
        self.fails_at = fails_at
        self.open = False
        self.entered, self.gate = Event(), Event()
        self.gate.set()

    def frames(self, cancelled: Event) -> Generator[TimedFrame, None, None]:
        self.open = True
        try:
            for index in range(self.count):
                self.entered.set()
                self.gate.wait(10)
                if index == self.fails_at:
                    raise UndecodableMedia("a frame of the video is damaged")
                yield TimedFrame(np.zeros((8, 8, 3), np.uint8), index / 10, index)
        finally:
            self.open = False


class SkippingSource:
    """Has a frame after so many moments at which it has none; a moment is a second of the clock."""

    info = MediaInfo(8, 8)
    truncated = False

    def __init__(self, clock: ManualClock, *moments: int) -> None:
        self.clock = clock
        self.moments = moments

    def frames(self, cancelled: Event) -> Generator[TimedFrame | None, None, None]:
        for index, moments in enumerate(self.moments):
            for _ in range(moments):
                self.clock.now_s += 1
                yield None
            yield TimedFrame(np.zeros((8, 8, 3), np.uint8), float(index), index)


def reader(source: Source, faces: int = 1, **options: Any) -> FrameReader[LocatedFrame]:
    found = tuple(LocatedFace(i + 1, face_at(0, 0, 4), Pose(0, 0, 0), Quality(4, 0.5), ()) for i in range(faces))
    clock = StageClock(Telemetry(), "test")

    def locate(timed: TimedFrame) -> LocatedFrame:
        return LocatedFrame(timed.time_s, timed.index, found, frozenset())

    return FrameReader(source, locate, clock, **options)


def chunks(reading: FrameReader[LocatedFrame]) -> list[list[int]]:
    sizes, is_last = [], False
    while not is_last:
        chunk = reading.next_chunk()
        sizes.append([frame.index for frame in chunk.frames])
        is_last = chunk.is_last
    return sizes


def test_a_chunk_has_four_frames_and_the_last_one_the_rest() -> None:
    assert CHUNK_FRAMES == 4
    assert chunks(reader(CountedSource(6))) == [[0, 1, 2, 3], [4, 5]]
    assert chunks(reader(CountedSource(1))) == [[0]]  # a picture needs no second call
    assert chunks(reader(CountedSource(4))) == [[0, 1, 2, 3], []]


def test_a_crowd_makes_chunks_shorter() -> None:
    assert CHUNK_FACES == 32
    assert chunks(reader(CountedSource(3), faces=64)) == [[0], [1], [2], []]
    assert chunks(reader(CountedSource(3), faces=20)) == [[0, 1], [2]]


def test_a_chunk_ends_where_its_turn_does() -> None:
    clock = ManualClock()
    skipping = SkippingSource(clock, 5, 1, 0, 1)
    # Two turns of two seconds are over before the first frame; the third ends at its second second.
    assert chunks(reader(skipping, turn_s=2, now_s=clock)) == [[], [], [0], [1, 2, 3]]


def test_without_a_turn_a_chunk_waits_for_its_frames() -> None:
    clock = ManualClock()
    assert chunks(reader(SkippingSource(clock, 500, 1, 700), now_s=clock)) == [[0, 1, 2]]
    assert clock.now_s == 1201


def test_cancelling_releases_the_source_at_once() -> None:
    source = CountedSource(100)
    reading = reader(source)
    reading.next_chunk()
    assert source.open
    reading.cancel()
    assert not source.open
    assert reading.next_chunk().frames == ()
    reading.cancel()  # may be called again


def test_a_source_that_is_read_from_is_released_by_whoever_reads() -> None:
    source = CountedSource(100)
    source.gate.clear()
    reading = reader(source)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(reading.next_chunk().frames)))
    thread.start()
    assert source.entered.wait(10)
    reading.cancel()
    assert source.open  # the thread is still in it
    source.gate.set()
    thread.join(10)
    assert not source.open
    assert found == [1]  # the frame that it was reading


def test_a_source_is_released_where_looking_fails_after_it_was_cancelled() -> None:
    source = CountedSource(100)

    def look(timed: TimedFrame) -> LocatedFrame:
        reading.cancel()  # as another thread may
        raise MemoryError

    reading = FrameReader[LocatedFrame](source, look, StageClock(Telemetry(), "test"))
    with pytest.raises(MemoryError):
        reading.next_chunk()
    assert not source.open


def test_quality_is_that_of_a_crop_of_one_size() -> None:
    """A network that looks at small crops, and the one that ships, have the same sharpness of a face."""
    rng = np.random.default_rng(1)
    frame = np.repeat(rng.integers(0, 256, (200, 200, 1), np.uint8), 3, axis=2)
    inputs = [InputSpec(size, "rgb", (0.5,) * 3, (0.25,) * 3, "arcface-1") for size in (112, 32)]
    faces = [TrackedFace(1, face_at(50, 50, 80))]
    found = [Locator(FakeDetector(), each, 0.5).align(frame, faces)[0] for each in (inputs[:1], inputs[1:], inputs)]
    assert [[len(crop) for crop in each.crops] for each in found] == [[112], [32], [112, 32]]
    assert found[0].quality == found[1].quality == found[2].quality
    assert found[0].quality.sharpness == sharpness(found[0].crops[0])


def test_an_error_of_the_source_is_raised_and_closes_it() -> None:
    source = CountedSource(10, fails_at=5)
    reading = reader(source)
    assert len(reading.next_chunk().frames) == 4
    with pytest.raises(UndecodableMedia):
        reading.next_chunk()
    assert not source.open
