"""A session's memory: smoothing as a delay line, and nothing that grows with a video."""

from collections.abc import Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.films import films, frames
from model_core.faces.detection import FaceDetector, build_detector, largest
from model_core.faces.geometry import Face, Frame
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality
from model_core.inference.smoothing import smooth_causal, smooth_offline
from service.analysis.baselines import WithFirstSeconds
from service.analysis.locating import LocatedFace, LocatedFrame, Locator
from service.analysis.results import AnalysisOptions, FirstSeconds, FrameResult, Smoothing
from service.analysis.session import OfflineSmoothing, Session, TrackedFrame, TrackedOutputs
from service.media.videos import TimedFrame
from service.telemetry import StageClock, Telemetry
from tests.service.fakes import FakeDetector, FakeEnsemble, FakePredictor, face_at

POSE = Pose(5, -10, 2)
QUALITY = Quality(32, 0.5)


def session(smoothing: Smoothing = "none") -> Session:
    locator = Locator(FakeDetector(), [FakePredictor.manifest.input], 0.5)
    clock = StageClock(Telemetry(), "test")
    return Session(locator, FakeEnsemble(FakePredictor.manifest), AnalysisOptions(smoothing=smoothing), clock)


def frame(index: int, time_s: float, *corners: float) -> LocatedFrame:
    """A frame with a face at each of these places, of the tracks 1, 2 …"""
    faces = tuple(LocatedFace(i + 1, face_at(x, 8, 32), POSE, QUALITY, ()) for i, x in enumerate(corners))
    return LocatedFrame(time_s, index, faces, frozenset({1, 2}))


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


@pytest.mark.parametrize("smoothing", ["none", "causal", "offline"])
def test_a_result_has_the_pose_that_was_estimated_where_the_face_was_located(smoothing: Smoothing) -> None:
    [result] = fed(session(smoothing), [frame(0, 0.0, 8)], [0.5])
    assert result.faces[0].pose is POSE


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
    for number in range(300):  # somebody else every two seconds
        faces = (LocatedFace(number, face_at(8, 8, 32), POSE, QUALITY, ()),)
        told.feed(LocatedFrame(2.0 * number, number, faces, frozenset({number})), [np.array([0.5])])
        assert ensemble.kept == {number}
        assert len(getattr(told._smoother, "_tracks", ())) <= 2


@pytest.mark.parametrize("smoothing", ["none", "causal", "offline"])
def test_no_baseline_is_kept_of_tracks_that_have_ended(smoothing: Smoothing) -> None:
    options = AnalysisOptions(smoothing=smoothing, baseline=FirstSeconds(1.0))
    locator = Locator(FakeDetector(), [FakePredictor.manifest.input], 0.5)
    told = Session(locator, FakeEnsemble(FakePredictor.manifest), options, StageClock(Telemetry(), "test"))
    results = []
    for number in range(300):  # somebody else every third frame
        track_id = number // 3
        faces = (LocatedFace(track_id, face_at(8, 8, 32), POSE, QUALITY, ()),)
        located = LocatedFrame(0.6 * number, number, faces, frozenset({track_id}))
        results += told.feed(located, [np.array([0.1 + 0.2 * (number % 3)])])
        assert len(getattr(told._comparison, "_tracks", ())) <= 1
    results += told.finish()
    # Two frames of each are its baseline, the third is compared with them.
    assert [result.faces[0].changes is None for result in results] == [True, True, False] * 100
    if smoothing != "causal":
        changes = [result.faces[0].changes for result in results]
        assert [each["valence"].value for each in changes if each] == pytest.approx([0.5 - 0.2] * 100, abs=0.01)


@pytest.mark.parametrize("start", range(10))
def test_a_baseline_ends_at_the_same_frame_wherever_its_track_begins(start: int) -> None:
    """0.7 - 0.4 is a little less than 0.3 as floating-point numbers are."""
    comparison = FakeEnsemble(FakePredictor.manifest).comparison
    told = WithFirstSeconds(0.3, comparison)
    changes = [told.changes(1, np.zeros(comparison.width), (start + number) / 10) for number in range(5)]
    assert [each is None for each in changes] == [True, True, True, False, False]


@pytest.mark.parametrize("smoothing", ["causal", "offline"])
def test_smoothing_does_not_reach_across_a_cut(smoothing: Smoothing) -> None:
    told = session(smoothing)
    results = []
    for number, track_id in enumerate((1, 1, 2, 2)):
        faces = (LocatedFace(track_id, face_at(8, 8, 32), POSE, QUALITY, ()),)
        located = LocatedFrame(0.1 * number, number, faces, frozenset({track_id}))
        results += told.feed(located, [np.array([0.2 if track_id == 1 else 0.8])])
    valences = [result.faces[0].affect.valence for result in results + told.finish()]
    assert valences == pytest.approx([0.2, 0.2, 0.8, 0.8])


class SideBySide:
    """Finds squares in a row, of given sides, and notes how many faces it was asked for."""

    name = "squares-1"

    def __init__(self, *sides: float) -> None:
        self.sides = list(sides)
        self.asked: list[int | None] = []

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        self.asked.append(max_faces)
        return largest([face_at(100 * place, 20, side) for place, side in enumerate(self.sides) if side], max_faces)

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        return None


def locating(detector: FaceDetector, options: AnalysisOptions) -> Session:
    """A session that scans every frame."""
    locator = Locator(detector, [FakePredictor.manifest.input], 0)
    return Session(locator, FakeEnsemble(FakePredictor.manifest), options, StageClock(Telemetry(), "test"))


def located_ids(session: Session, time_s: float, picture: Frame) -> list[int]:
    return [face.track_id for face in session.locate(TimedFrame(picture, time_s, 0)).faces]


def test_max_faces_are_people_who_stay_reported_while_they_are_there() -> None:
    detector = SideBySide(60, 58, 56, 54)
    told = locating(detector, AnalysisOptions(max_faces=2))
    picture = np.zeros((120, 400, 3), np.uint8)
    assert located_ids(told, 0.0, picture) == [1, 2]
    detector.sides = [56, 55, 62, 61]  # the others are the largest now
    assert located_ids(told, 0.1, picture) == [1, 2]
    detector.sides = [56, 0, 62, 61]  # the second is not found for a moment
    assert located_ids(told, 0.2, picture) == [1]
    detector.sides = [56, 55, 62, 61]
    assert located_ids(told, 0.3, picture) == [1, 2]
    assert detector.asked == [2, 8, 8, 8]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cut to another place", [1, 2]),
        ("cut between two at one place, same ground", [1, 2]),
        ("cut between look-alikes 18, same ground", [1, 2]),
        ("blinks", [1]),
        ("hand", [1]),
        ("flash", [1]),
        ("shake", [1]),
        ("astronaut walks 1.5 widths/s", [1]),
    ],
)
def test_a_cut_ends_tracks_and_nothing_else_does(name: str, expected: list[int]) -> None:
    told = locating(build_detector("yuface"), AnalysisOptions())
    found: list[int] = []
    for time_s, picture in frames(films()[name], 10):
        if 1.4 <= time_s < 2.6:
            found += located_ids(told, time_s, picture)
    assert list(dict.fromkeys(found)) == expected
    assert len(found) >= 10


@given(st.lists(st.floats(0.001, 0.3), min_size=1, max_size=60))
def test_the_delay_line_holds_no_more_than_its_window(steps: list[float]) -> None:
    smoothing = OfflineSmoothing()
    times = np.cumsum(steps)
    for index, time_s in enumerate(times):
        face = TrackedOutputs(1, face_at(8, 8, 32), POSE, QUALITY, np.zeros(1))
        smoothing.add(TrackedFrame(time_s, index, (face,), frozenset({1})))
        within = times[: index + 1] >= time_s - 0.45 - 1e-9
        assert smoothing.delayed <= within.sum()
