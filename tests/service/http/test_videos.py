"""POST /analyze/video to the contract: frame i of the test video has grey level 20 i."""

import math
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.service.fakes import FakeDetector, face_at
from tests.service.media_files import mp4

LEVELS = [20 * i for i in range(1, 11)]


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    return mp4(tmp_path / "a.mp4", LEVELS)


def post(client: TestClient, content: bytes, **params: object) -> dict:
    response = client.post("/analyze/video", files={"file": ("a.mp4", content)}, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_one_track_with_a_sample_a_frame(client: TestClient, video: bytes) -> None:
    document = post(client, video)
    assert document["video"] == {
        "width": 96,
        "height": 64,
        "fps": 10.0,
        "start_s": 0.0,
        "duration_s": 1.0,
        "frames_analyzed": 10,
        "truncated": False,
    }
    [track] = document["tracks"]
    assert (track["track_id"], track["first_s"], track["last_s"]) == (1, 0.0, pytest.approx(0.9))
    assert [sample["frame"] for sample in track["samples"]] == list(range(10))
    valences = [sample["valence"] for sample in track["samples"]]
    assert valences == pytest.approx([level / 255 for level in LEVELS], abs=0.02)
    assert document["frames"] == [
        {"time_s": sample["time_s"], "frame": sample["frame"], "faces": [1]} for sample in track["samples"]
    ]


def test_summary_follows_from_the_samples(client: TestClient, video: bytes) -> None:
    [track] = post(client, video)["tracks"]
    valences = [sample["valence"] for sample in track["samples"]]
    summary = track["summary"]
    assert summary["valence"]["mean"] == pytest.approx(sum(valences) / 10)
    assert summary["valence"]["min"] == min(valences)
    # Levels 140 to 200 are above one half: 4 of 10 frames.
    assert summary["expression_share"] == {"neutral": 0.6, "happiness": 0.4}
    assert summary["active_share"]["AU12"] == 0.4


def test_fps_and_window_choose_frames(client: TestClient, video: bytes) -> None:
    [track] = post(client, video, fps=5)["tracks"]
    assert [sample["frame"] for sample in track["samples"]] == [0, 2, 4, 6, 8]
    [track] = post(client, video, start_s=0.3, end_s=0.55)["tracks"]
    assert [sample["frame"] for sample in track["samples"]] == [3, 4, 5]


def test_two_people_two_tracks(client: TestClient, video: bytes, detector: FakeDetector) -> None:
    detector.faces = [face_at(4, 8, 32), face_at(56, 8, 32)]
    tracks = post(client, video)["tracks"]
    assert [(track["track_id"], len(track["samples"])) for track in tracks] == [(1, 10), (2, 10)]


def test_no_face_no_tracks(client: TestClient, tmp_path: Path) -> None:
    document = post(client, mp4(tmp_path / "b.mp4", [0] * 5))
    assert document["tracks"] == []
    assert [frame["faces"] for frame in document["frames"]] == [[]] * 5
    assert document["video"]["frames_analyzed"] == 5


def test_server_timing_tells_the_stages(client: TestClient, video: bytes) -> None:
    response = client.post("/analyze/video", files={"file": ("a.mp4", video)})
    stages = response.json()["timings_ms"]
    assert set(stages) == {"decode", "detect", "align", "queue", "predict", "track", "render", "total"}
    assert response.headers["Server-Timing"] == ", ".join(f"{name};dur={spent}" for name, spent in stages.items())


def test_uploads_are_gone_after_the_answer(client: TestClient, video: bytes) -> None:
    post(client, video)
    assert list(client.app.state.context.directory.iterdir()) == []


@pytest.mark.parametrize("temporal", ["auto", "off"])
def test_both_temporal_modes_without_a_temporal_model(client: TestClient, video: bytes, temporal: str) -> None:
    assert len(post(client, video, temporal=temporal)["tracks"]) == 1


def valences(document: dict) -> list[float]:
    [track] = document["tracks"]
    return [sample["valence"] for sample in track["samples"]]


def test_causal_smoothing_follows_the_past(client: TestClient, video: bytes) -> None:
    plain, smooth = valences(post(client, video)), valences(post(client, video, smoothing="causal"))
    weight = 1 - math.exp(-0.1 / 0.15)  # of each new frame, 0.1 s after the last
    expected = plain[:1]
    for value in plain[1:]:
        expected.append(expected[-1] + weight * (value - expected[-1]))
    assert smooth == pytest.approx(expected)
    # The level rises by 20 a frame, so the smooth one stays below.
    assert all(low < high for low, high in zip(smooth[1:], plain[1:], strict=True))


def test_offline_smoothing_knows_the_future_and_decisions_follow_it(client: TestClient, video: bytes) -> None:
    plain, document = valences(post(client, video)), post(client, video, smoothing="offline")
    smooth = valences(document)
    assert smooth[5] == pytest.approx(plain[5], abs=0.01)  # the middle of a ramp
    assert smooth[0] > plain[0]
    assert smooth[-1] < plain[-1]
    for sample in document["tracks"][0]["samples"]:
        assert sample["action_units"]["AU12"]["active"] == (sample["valence"] >= 0.5)


def test_each_track_is_smoothed_on_its_own(client: TestClient, video: bytes, detector: FakeDetector) -> None:
    alone = {mode: valences(post(client, video, smoothing=mode)) for mode in ("causal", "offline")}
    detector.faces = [face_at(4, 4, 30), face_at(60, 30, 30)]
    for mode, expected in alone.items():
        tracks = post(client, video, smoothing=mode)["tracks"]
        assert len(tracks) == 2
        for track in tracks:
            assert [sample["valence"] for sample in track["samples"]] == pytest.approx(expected, abs=0.02)
