"""A session's memory: smoothing as a delay line, and nothing that grows with a video."""

from collections.abc import Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.quality import Quality
from model_core.inference.smoothing import smooth_causal, smooth_offline
from service.analysis.locating import LocatedFace, LocatedFrame, Locator
from service.analysis.results import AnalysisOptions, FrameResult, Smoothing
from service.analysis.session import OfflineSmoothing, Session, TrackedFrame, TrackedOutputs
from service.telemetry import StageClock, Telemetry
from tests.service.fakes import FakeDetector, FakeEnsemble, FakePredictor, face_at

QUALITY = Quality(32, 0.5)


def session(smoothing: Smoothing = "none") -> Session:
    locator = Locator(FakeDetector(), [FakePredictor.manifest.input], 0.5)
    clock = StageClock(Telemetry(), "test")
    return Session(locator, FakeEnsemble(FakePredictor.manifest), AnalysisOptions(smoothing=smoothing), clock)


def frame(index: int, time_s: float, *corners: float) -> LocatedFrame:
    """A frame with a face at each of these places."""
    return LocatedFrame(time_s, index, tuple(LocatedFace(face_at(x, 8, 32), QUALITY, ()) for x in corners))


def fed(session: Session, frames: Sequence[LocatedFrame], levels: Sequence[float]) -> list[FrameResult]:
    remaining = iter(levels)
    results = [
        result for each in frames for result in session.feed(each, [np.array([next(remaining)]) for _ in each.faces])
    ]
    return results + session.finish()


TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0, 1.1, 2.0]
LEVELS = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 0.55]


@pytest.mark.parametrize(("smoothing", "whole"), [("causal", smooth_causal), ("offline", smooth_offline)])
def test_a_track_is_smoothed_as_if_it_were_known_whole(smoothing: Smoothing, whole: object) -> None:
    results = fed(session(smoothing), [frame(i, time_s, 8) for i, time_s in enumerate(TIMES)], LEVELS)
    expected = whole(np.array(LEVELS)[:, None], np.array(TIMES))[:, 0]
    assert [result.frame for result in results] == list(range(10))
    assert [result.faces[0].affect.valence for result in results] == expected.tolist()


def test_offline_smoothing_looks_450_ms_ahead_and_no_further() -> None:
    told = session("offline")
    counts = [len(told.feed(frame(i, time_s, 8), [np.array([0.5])])) for i, time_s in enumerate(TIMES)]
    # At 0.5 s the frame of 0.0 s is complete, at 0.9 s those of 0.1 to 0.4 s, at 2.0 s all but the last.
    assert counts == [0, 0, 0, 0, 0, 1, 4, 1, 0, 3]
    assert told.delayed == 1
    assert [result.frame for result in told.finish()] == [9]
    assert told.delayed == 0


def test_frames_without_faces_keep_their_place_in_the_delay() -> None:
    frames = [frame(0, 0.0, 8), frame(1, 0.2), frame(2, 0.4, 8), frame(3, 1.0)]
    results = fed(session("offline"), frames, [0.2, 0.4])
    assert [(result.frame, len(result.faces)) for result in results] == [(0, 1), (1, 0), (2, 1), (3, 0)]


class CountingEnsemble(FakeEnsemble):
    """Remembers which tracks are kept."""

    kept: Collection[int] = ()

    def keep(self, track_ids: Collection[int]) -> None:
        self.kept = track_ids


@pytest.mark.parametrize("smoothing", ["none", "causal", "offline"])
def test_nothing_is_kept_of_tracks_that_have_ended(smoothing: Smoothing) -> None:
    locator = Locator(FakeDetector(), [FakePredictor.manifest.input], 0.5)
    ensemble = CountingEnsemble(FakePredictor.manifest)
    told = Session(locator, ensemble, AnalysisOptions(smoothing=smoothing), StageClock(Telemetry(), "test"))
    ids = set()
    for number in range(300):  # a face somewhere else every two seconds
        for result in told.feed(frame(number, 2.0 * number, 100.0 * (number % 5)), [np.array([0.5])]):
            ids |= {face.track_id for face in result.faces}
        assert len(ensemble.kept) <= 2
        assert len(getattr(told._smoother, "_tracks", ())) <= 3
    assert len(ids) >= 299  # never used again


@given(st.lists(st.floats(0.001, 0.3), min_size=1, max_size=60))
def test_the_delay_line_holds_no_more_than_its_window(steps: list[float]) -> None:
    smoothing = OfflineSmoothing()
    times = np.cumsum(steps)
    for index, time_s in enumerate(times):
        face = TrackedOutputs(1, face_at(8, 8, 32), QUALITY, np.zeros(1))
        smoothing.add(TrackedFrame(time_s, index, (face,)))
        within = times[: index + 1] >= time_s - 0.45 - 1e-9
        assert smoothing.delayed <= within.sum()
