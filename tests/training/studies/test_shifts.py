import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point
from tests.fakes import small_grey_face, write_ferplus
from tests.training.conftest import FinishedRun
from training.datasets import DatasetError
from training.runs.trained import load_evaluable
from training.studies import shifts
from training.studies.shifts import shifted, study

LANDMARKS = np.array([[-15, -15], [15, -15], [0, 0], [-12, 15], [12, 15]])


class DotDetector:
    """Finds a face around a bright dot, or always where the dot of an unshifted picture is."""

    name = "dot"

    def __init__(self, follows: bool) -> None:
        self._follows = follows

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        y, x = np.unravel_index(int(frame[..., 0].argmax()), frame.shape[:2]) if self._follows else (80, 80)
        points = LANDMARKS + np.array([x, y])
        return [Face(Box(x - 30, y - 30, 60, 60), Landmarks(*(Point(*each) for each in points.tolist())), 1.0)]

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        raise NotImplementedError


class BlindDetector(DotDetector):
    """Finds a face in no picture."""

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        return []


@pytest.fixture
def dot() -> Frame:
    frame = np.full((160, 160, 3), 60, np.uint8)
    frame[80, 80] = 255
    cv2.circle(frame, (90, 95), 6, (10, 10, 10), -1)
    return frame


def test_a_shift_is_about_its_distance_and_repeats_the_edge(dot: Frame) -> None:
    rng = np.random.default_rng(0)
    for distance in (1, 5, 8):
        moved = shifted(dot, distance, rng)
        y, x = np.unravel_index(int(moved[..., 0].argmax()), moved.shape[:2])
        assert np.hypot(x - 80, y - 80) == pytest.approx(distance, abs=0.75)
        assert moved[0, 0, 0] == moved[-1, -1, 0] == 60


def test_a_face_that_is_found_where_it_is_gets_the_same_answers(finished: FinishedRun, dot: Frame) -> None:
    evaluable = load_evaluable(finished.folder)
    followed, fixed = (study(evaluable, DotDetector(follows), [dot, dot], 0.6, seed=0) for follows in (True, False))
    assert followed["pictures"] == 2
    assert max(followed["deviations"]["action_units"].values()) < 1e-6
    assert min(fixed["deviations"]["action_units"].values()) > 1e-5


def test_without_a_face_there_is_nothing_to_tell(finished: FinishedRun, dot: Frame) -> None:
    with pytest.raises(DatasetError, match="no picture shows a face"):
        study(load_evaluable(finished.folder), BlindDetector(True), [dot], 0.6, seed=0)


def test_the_command(
    finished: FinishedRun,
    astronaut: Frame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    votes = [8, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    pictures = [
        (folder, f"{folder}.png", small_grey_face(astronaut), votes)
        for folder in ("FER2013Train", "FER2013Valid", "FER2013Test")
    ]
    out = tmp_path / "shifts.json"
    arguments = ["--model", finished.folder, "--dataset", "ferplus", "--root", write_ferplus(tmp_path / "f", pictures)]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments), "--out", str(out)])
    shifts.main()
    result = json.loads(out.read_text())
    assert result["pictures"] == 1
    assert 0 < result["deviations"]["valence_arousal"]["valence"] < 0.1
    assert "ferplus validation: 1 of 1 pictures" in capsys.readouterr().out
