"""Annotated videos as clients get them, and what they must never show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.geometry import Box, Face, Frame
from service.app import create_app
from service.output.annotation.drawing import COLOURS
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.test_jobs import ASYNC, ended
from tests.service.media_files import grey, video

MP4, WEBM = "video/mp4", "video/webm"


@contextmanager
def serving(folder: Path, detector: FaceDetector | None = None, **settings: Any) -> Iterator[TestClient]:
    app = create_app(
        Settings(jobs_dir=folder / "jobs", **settings), detector or FakeDetector(face_at(8, 8, 32)), FakePredictor()
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """Two seconds at 10 frames a second, of one grey."""
    return video(tmp_path / "clip.mp4", [grey(200, (320, 240))] * 20, fps=10, sound_s=2).read_bytes()


def result(client: TestClient, clip: bytes, media_type: str, query: str = "") -> bytes:
    accepted = client.post(f"/analyze/video?{query}", files={"file": clip}, headers=ASYNC | {"Accept": media_type})
    assert accepted.status_code == 202, accepted.text
    location = accepted.headers["location"]
    status = ended(client, location)
    assert (status["state"], status["progress"], status["media_type"]) == ("succeeded", 1, media_type), status
    answer = client.get(f"{location}/result")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    return answer.content


def frames_of(content: bytes, path: Path) -> list[Frame]:
    path.write_bytes(content)
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def has_colour(frame: Frame, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(frame.astype(int) - colour).max(axis=2) < 50).sum() > 20)


@pytest.mark.parametrize("media_type", [MP4, WEBM])
def test_all_frames_are_drawn_on_and_not_only_the_analysed_ones(tmp_path: Path, clip: bytes, media_type: str) -> None:
    with serving(tmp_path) as client:
        frames = frames_of(result(client, clip, media_type, "fps=2"), tmp_path / "result")
    assert len(frames) == 20
    for frame in frames:
        assert has_colour(frame[:60, :60], COLOURS[0])
        assert frame[-3:, 200:].mean() < 190  # the time line
    assert sum(path.stat().st_size for path in (tmp_path / "jobs" / "uploads").iterdir()) == 0


def test_a_picture_without_boxes_is_clean(tmp_path: Path, clip: bytes) -> None:
    with serving(tmp_path) as client:
        frames = frames_of(result(client, clip, MP4, "boxes=off"), tmp_path / "result")
    assert all(np.abs(frame.astype(int) - 200).max() <= 3 for frame in frames)


class ForgetfulDetector(FakeDetector):
    """Finds its face in every third look at a whole frame only."""

    looks = 0

    def detect(self, frame: Frame, **options: Any) -> list[Face]:
        self.looks += 1
        return super().detect(frame, **options) if self.looks % 3 == 1 else []


def test_a_face_that_is_missed_in_some_frames_is_hidden_in_all(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frame = grey(200, (320, 240))
    frame[88:152, 88:152] = noise
    content = video(tmp_path / "clip.mkv", [frame] * 20, "ffv1", fps=10).read_bytes()
    with serving(tmp_path, ForgetfulDetector(face_at(88, 88, 64))) as client:
        frames = frames_of(result(client, content, MP4, "blur=faces&boxes=off"), tmp_path / "result")
    assert len(frames) == 20
    assert max(float(each[88:152, 88:152].std()) for each in frames) < 2  # of noise, it is 74


def test_what_no_track_reports_is_hidden_too(tmp_path: Path, clip: bytes) -> None:
    """min_confidence chooses what is told of, not whose face is hidden."""
    faces = [face_at(8, 8, 32), face_at(150, 100, 24, confidence=0.35), face_at(250, 20, 24)]
    rng = np.random.default_rng(0)
    frame = grey(200, (320, 240))
    for face in faces:
        x, y, side = int(face.box.x), int(face.box.y), int(face.box.width)
        frame[y : y + side, x : x + side] = rng.integers(0, 256, (side, side, 3), np.uint8)
    content = video(tmp_path / "many.mkv", [frame] * 5, "ffv1", fps=10).read_bytes()
    with serving(tmp_path, FakeDetector(*faces)) as client:
        query = "blur=faces&boxes=off&min_confidence=0.9"
        for each in frames_of(result(client, content, MP4, query), tmp_path / "result"):
            for face in faces:
                x, y, side = int(face.box.x), int(face.box.y), int(face.box.width)
                assert each[y : y + side, x : x + side].std() < 2


def texture(part: Frame) -> float:
    """Standard deviation of the colour in a part of a frame; 0 where it is plain."""
    return float(part.std(axis=(0, 1)).max())


def moving_face(astronaut: Frame, frames: int) -> Iterator[tuple[Frame, Box]]:
    """A real face that moves through the picture, grows, and is cut off by the border at the end."""
    for number in range(frames):
        side = 90 + 2 * number
        head = cv2.resize(astronaut[:220, 120:340], (side, side), interpolation=cv2.INTER_AREA)
        frame = cv2.resize(astronaut[300:500, 0:60], (320, 240))
        x, y = 5 + 9 * number, 20 + round(40 * np.sin(number / 4) ** 2)
        width = min(side, 320 - x)
        frame[y : y + side, x : x + width] = head[: 240 - y, :width]
        yield np.ascontiguousarray(frame), Box(x + 0.4 * side, y + 0.3 * side, 0.35 * side, 0.4 * side)


def test_no_face_of_a_moving_person_leaks(tmp_path: Path, astronaut: Frame) -> None:
    detector = build_detector("yuface")
    source = list(moving_face(astronaut, 24))
    content = video(tmp_path / "clip.mkv", [frame for frame, _ in source], "ffv1", fps=12).read_bytes()
    assert sum(bool(detector.detect(frame)) for frame, _ in source) >= 18  # the test could fail
    with serving(tmp_path, detector) as client:
        frames = frames_of(result(client, content, MP4, "blur=faces&boxes=off"), tmp_path / "result")
    assert len(frames) == 24
    for frame, (before, place) in zip(frames, source, strict=True):
        assert detector.detect(frame, min_confidence=0.3) == []
        inside = np.s_[round(place.y) : round(place.y + place.height), round(place.x) : round(place.x + place.width)]
        if before[inside].shape[1] > 8:
            assert texture(frame[inside]) < 4
            assert texture(before[inside]) > 20


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("boxes=on", "application/json"),
        ("blur=none", "text/csv"),
        ("blur=mouths", MP4),
        ("fps=5&boxes=off", MP4),
        ("max_faces=16&boxes=off&blur=faces", MP4),
        ("boxes=maybe", MP4),
        ("columns=fex", MP4),
        ("baseline_s=2", WEBM),
        ("baseline=auto", WEBM),
        ("annotated=true", MP4),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_upload_is_kept(
    tmp_path: Path, clip: bytes, query: str, accept: str
) -> None:
    with serving(tmp_path) as client:
        answer = client.post(f"/analyze/video?{query}", files={"file": clip}, headers=ASYNC | {"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
        assert answer.json()["detail"].startswith(query.partition("=")[0])
    assert list((tmp_path / "jobs").rglob("*/*")) == []


def test_only_jobs_give_annotated_videos(tmp_path: Path, clip: bytes) -> None:
    with serving(tmp_path) as client:
        direct = client.post("/analyze/video", files={"file": clip}, headers={"Accept": MP4})
        assert (direct.status_code, direct.json()["code"]) == (406, "not_acceptable")
        blurred = client.post("/analyze/video?blur=faces", files={"file": clip})
        assert (blurred.status_code, blurred.json()["code"]) == (422, "invalid_parameter")


def test_a_file_that_is_no_video_fails_its_job(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        for query in ("", "boxes=off", "blur=faces&boxes=off"):
            accepted = client.post(
                f"/analyze/video?{query}", files={"file": b"no video" * 20}, headers=ASYNC | {"Accept": MP4}
            )
            status = ended(client, accepted.headers["location"])
            assert (status["state"], status["problem"]["code"]) == ("failed", "unsupported_media_type")
    assert list((tmp_path / "jobs").rglob("*/*")) == []


def test_a_detector_that_fails_fails_the_job(tmp_path: Path, clip: bytes) -> None:
    class Failing(FakeDetector):
        def detect(self, frame: Frame, **options: Any) -> list[Face]:
            raise RuntimeError("a fault of ours")

    with serving(tmp_path, Failing()) as client:
        accepted = client.post(
            "/analyze/video?blur=faces&boxes=off", files={"file": clip}, headers=ASYNC | {"Accept": MP4}
        )
        status = ended(client, accepted.headers["location"])
        assert (status["state"], status["problem"]["code"]) == ("failed", "internal_error")
    assert list((tmp_path / "jobs").rglob("*/*")) == []
