"""Changes against a person's own baseline, with numbers that follow from grey levels.

Valence and the probability of AU12 are the level / 255; arousal is minus that, and all other units are at 0.
"""

import asyncio
import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, LEARNED_TASKS
from model_core.baseline import Change, Comparison
from model_core.calibration import Calibration, ChangeLimits
from model_core.faces.geometry import Face, Frame
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import mp4, png

FITTED = Calibration(change_limits=ChangeLimits({"valence": 0.5, "arousal": 0.5}, dict.fromkeys(ACTION_UNITS, 1.0)))
LEVELS = [20 * i for i in range(1, 11)]


class InsideDetector(FakeDetector):
    """Finds those of its faces that lie in the frame."""

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        found = super().detect(frame, min_confidence=min_confidence)
        return [face for face in found if face.box.x + face.box.width <= frame.shape[1]][:max_faces]


@pytest.fixture
def detector() -> FakeDetector:
    """One face in a picture of 64 pixels, two in one of 128."""
    return InsideDetector(face_at(8, 8, 32), face_at(80, 8, 30))


@pytest.fixture
def fitted(predictor: FakePredictor) -> None:
    """The bundle has limits."""
    predictor.everything.comparison = Comparison.of(LEARNED_TASKS, FITTED)


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """Frame i of ten a second has the grey level 20 i."""
    return mp4(tmp_path / "a.mp4", LEVELS, size=(64, 48))


def faces(client: TestClient, picture: bytes, baseline: bytes, **params: object) -> list[dict]:
    response = client.post("/analyze/frame", files={"file": picture, "baseline": baseline}, params=params)
    assert response.status_code == 200, response.text
    return response.json()["faces"]


def tracked(client: TestClient, content: bytes, **params: object) -> list[dict]:
    """The samples of a video's only track."""
    response = client.post("/analyze/video", files={"file": content}, params=params)
    assert response.status_code == 200, response.text
    [track] = response.json()["tracks"]
    return track["samples"]


def refused(client: TestClient, route: str, files: object, **params: object) -> tuple[int, str, str]:
    response = client.post(route, files=files, params=params)
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, document["code"], document["detail"]


def test_without_a_baseline_there_is_no_change(client: TestClient) -> None:
    [face] = client.post("/analyze/frame", files={"file": png(204)}).json()["faces"]
    assert "change" not in face


def test_the_answer_tells_of_the_baseline_itself(client: TestClient) -> None:
    document = client.post("/analyze/frame", files={"file": png(204), "baseline": png(51)}).json()
    [face], baseline = document["faces"], document["baseline"]
    assert (face["valence"], baseline["valence"]) == (pytest.approx(0.8), pytest.approx(0.2))
    assert baseline.keys() == face.keys() - {"change"}
    assert "baseline" not in client.post("/analyze/frame", files={"file": png(204)}).json()


def test_a_picture_is_compared_with_its_baseline(client: TestClient) -> None:
    [face] = faces(client, png(204), png(51))
    assert face["valence"] == pytest.approx(0.8)
    change = face["change"]
    assert list(change) == ["valence", "arousal", *ACTION_UNITS]
    assert change["valence"] == {"value": pytest.approx(0.6)}  # 0.8 - 0.2, and no limit that would tell a rise
    assert change["arousal"] == {"value": pytest.approx(-0.6)}
    assert change["AU12"] == {"value": pytest.approx(0.6)}
    assert change["AU1"] == {"value": 0.0}


@pytest.mark.usefixtures("fitted")
def test_a_rise_is_beyond_the_limit(client: TestClient) -> None:
    [face] = faces(client, png(204), png(51))
    # Log-odds of ln 4 against -ln 4 differ by 2.8, the limit is 1.
    assert face["change"]["AU12"] == {"value": pytest.approx(0.6), "rose": True}
    assert face["change"]["valence"]["rose"]
    assert not face["change"]["arousal"]["rose"]
    assert face["change"]["AU1"] == {"value": 0.0, "rose": False}
    [face] = faces(client, png(153), png(102))  # ln 1.5 against -ln 1.5 differ by 0.8
    assert face["change"]["AU12"] == {"value": pytest.approx(0.2), "rose": False}
    [face] = faces(client, png(51), png(204))
    assert face["change"]["AU12"] == {"value": pytest.approx(-0.6), "rose": False}


@pytest.mark.usefixtures("fitted")
def test_the_same_picture_has_not_changed(client: TestClient) -> None:
    [face] = faces(client, png(120), png(120))
    assert all(change == {"value": 0.0, "rose": False} for change in face["change"].values())


def test_every_face_is_compared_with_the_one_person(client: TestClient) -> None:
    first, second = faces(client, png(204, width=128), png(51))
    assert first["change"]["valence"]["value"] == second["change"]["valence"]["value"] == pytest.approx(0.6)


def test_the_order_of_the_parts_does_not_matter(client: TestClient) -> None:
    parts = [("baseline", png(51)), ("file", png(204))]
    answers = [client.post("/analyze/frame", files=order).json()["faces"] for order in (parts, parts[::-1])]
    assert answers[0] == answers[1]
    assert answers[0][0]["change"]["valence"]["value"] == pytest.approx(0.6)


def test_a_form_that_arrives_in_small_pieces_is_the_same(client: TestClient) -> None:
    files = {"baseline": png(51), "file": png(204)}
    request = client.build_request("POST", "/analyze/frame", files=files)
    body = request.read()
    pieces = (body[place : place + 7] for place in range(0, len(body), 7))
    headers = {"content-type": request.headers["content-type"]}
    [face] = client.post("/analyze/frame", content=pieces, headers=headers).json()["faces"]
    assert face["change"]["valence"]["value"] == pytest.approx(0.6)


def test_a_picture_without_a_face_needs_no_comparison(client: TestClient) -> None:
    assert faces(client, png(0), png(51)) == []


@pytest.mark.parametrize(
    ("baseline", "params", "found"),
    [
        (png(0), {}, "none"),
        (png(51, width=128), {}, "2"),
        (png(51, width=128), {"max_faces": 1}, "2"),
        (png(51), {"min_confidence": 0.95}, "none"),
    ],
    ids=["no face", "two faces", "two faces, one asked for", "one that is not certain"],
)
def test_a_baseline_shows_exactly_one_face(client: TestClient, baseline: bytes, params: dict, found: str) -> None:
    answer = refused(client, "/analyze/frame", {"file": png(204), "baseline": baseline}, **params)
    remedy = "cut it to the person of the picture" if found == "2" else "send a larger, frontal picture"
    detail = f"baseline: it must show exactly one face; found {found}: {remedy}"
    assert answer == (422, "invalid_baseline", detail)


def test_where_nothing_can_be_compared_a_baseline_is_refused(
    client: TestClient, video: bytes, predictor: FakePredictor
) -> None:
    predictor.everything.comparison = Comparison.of(("expression",), Calibration())
    *told, detail = refused(client, "/analyze/frame", {"file": png(204), "baseline": png(51)})
    assert told == [422, "invalid_baseline"]
    assert detail.startswith("baseline: no bundle that answers estimates valence, arousal or action units")
    for params in ({"baseline_s": 1}, {"baseline": "auto"}):
        assert refused(client, "/analyze/video", {"file": video}, **params) == (422, "invalid_parameter", detail)


@pytest.mark.parametrize(
    ("baseline", "status", "code", "detail"),
    [
        (b"", 422, "undecodable_media", "baseline: the file is empty"),
        (png(51)[:-30], 422, "undecodable_media", "baseline: "),
        (b"hello world" * 10, 415, "unsupported_media_type", "baseline: "),
        (png(51, width=1200, height=1000), 413, "too_many_pixels", "baseline: "),
    ],
    ids=["empty", "cut", "text", "large"],
)
def test_errors_tell_that_they_are_the_baselines(
    client: TestClient, baseline: bytes, status: int, code: str, detail: str
) -> None:
    answer = refused(client, "/analyze/frame", {"file": png(204), "baseline": baseline})
    assert answer[:2] == (status, code)
    assert answer[2].startswith(detail)


def test_errors_of_the_picture_are_its_own(client: TestClient) -> None:
    status, code, detail = refused(client, "/analyze/frame", {"file": png(204)[:-30], "baseline": png(51)})
    assert (status, code) == (422, "undecodable_media")
    assert "baseline" not in detail
    assert refused(client, "/analyze/frame", {"file": b"", "baseline": png(51)})[2] == "the uploaded file is empty"


def test_both_pictures_count_for_the_limit_of_bytes(client: TestClient) -> None:
    part = bytes(1_100_000)
    answer = refused(client, "/analyze/frame", {"file": part, "baseline": part})
    assert answer[:2] == (413, "upload_too_large")


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ([("baseline", png(51))], "the form has no part named file; send the picture or the video in one"),
        ([("file", png(9)), ("baseline", png(9)), ("baseline", png(9))], "more than one file in the field `baseline`"),
        ([("file", png(9)), ("file", png(9))], "more than one file in the field `file`"),
        ([("file", png(9)), ("other", png(9))], "perhaps one named baseline, and no other; found 'other'"),
    ],
)
def test_forms_that_are_refused(client: TestClient, parts: list, detail: str) -> None:
    status, code, told = refused(client, "/analyze/frame", parts)
    assert (status, code) == (400, "malformed_request")
    assert detail in told


def test_a_video_has_no_picture_at_rest(client: TestClient, video: bytes) -> None:
    status, code, detail = refused(client, "/analyze/video", {"file": video, "baseline": png(51)})
    assert (status, code) == (400, "malformed_request")
    assert "and no other; found 'baseline'; videos have the parameters baseline_s and baseline=auto" in detail


def test_nothing_of_a_baseline_is_kept(client: TestClient) -> None:
    faces(client, png(204), png(51))
    assert list(client.app.state.context.directory.iterdir()) == []
    [face] = client.post("/analyze/frame", files={"file": png(204)}).json()["faces"]
    assert "change" not in face


@pytest.mark.usefixtures("fitted")
def test_the_first_seconds_of_a_track_are_its_baseline(client: TestClient, video: bytes) -> None:
    samples = tracked(client, video, baseline_s=0.15)
    assert ["change" in sample for sample in samples] == [False] * 2 + [True] * 8
    valences = [sample["valence"] for sample in samples]
    log_odds = [math.log(p / (1 - p)) for p in valences]
    rest = np.mean(log_odds[:2])
    for sample, valence, odds in zip(samples[2:], valences[2:], log_odds[2:], strict=True):
        change = sample["change"]
        assert change["valence"]["value"] == pytest.approx(valence - np.mean(valences[:2]))
        assert change["AU12"]["value"] == pytest.approx(valence - 1 / (1 + math.exp(-rest)))
        assert change["AU12"]["rose"] == (odds - rest > 1)
        assert change["AU1"] == {"value": 0.0, "rose": False}
    # Levels of 20 and 40 are -2.07 on average; 60 is -1.18, and 80 is -0.78.
    assert [sample["change"]["AU12"]["rose"] for sample in samples[2:]] == [False] + [True] * 7


def test_each_track_has_a_baseline_of_its_own(client: TestClient, video: bytes, detector: FakeDetector) -> None:
    detector.faces = [face_at(2, 8, 26), face_at(34, 8, 26)]
    response = client.post("/analyze/video", files={"file": video}, params={"baseline_s": 0.05})
    for track in response.json()["tracks"]:
        first, second, *_ = track["samples"]
        assert "change" not in first
        assert second["change"]["valence"]["value"] == pytest.approx(second["valence"] - first["valence"])


def test_smoothed_outputs_are_compared(client: TestClient, video: bytes) -> None:
    for smoothing in ("causal", "offline"):
        samples = tracked(client, video, baseline_s=0.05, smoothing=smoothing)
        assert ["change" in sample for sample in samples] == [False] + [True] * 9
        for sample in samples[1:]:
            expected = sample["valence"] - samples[0]["valence"]
            assert sample["change"]["valence"]["value"] == pytest.approx(expected)


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("smoothing", ["none", "offline"])
def test_streams_tell_the_same_changes(client: TestClient, video: bytes, smoothing: str) -> None:
    params = {"baseline_s": 0.25, "smoothing": smoothing}
    expected = [sample.get("change") for sample in tracked(client, video, **params)]
    stream, table = (
        client.post("/analyze/video", files={"file": video}, params=params, headers={"accept": media_type}).text
        for media_type in ("application/x-ndjson", "text/csv")
    )
    lines = [json.loads(line) for line in stream.splitlines()]
    assert [line["faces"][0].get("change") for line in lines if line["type"] == "frame"] == expected
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == len(expected) == 10
    for row, change in zip(rows, expected, strict=True):
        for name in ("valence", "arousal", "AU12", "AU1"):
            told = ("", "") if change is None else (str(change[name]["value"]), str(int(change[name]["rose"])))
            assert (row[f"{name}_change"], row[f"{name}_rose"]) == told


def columns(client: TestClient, video: bytes, **params: object) -> list[str]:
    response = client.post("/analyze/video", files={"file": video}, params=params, headers={"accept": "text/csv"})
    assert response.status_code == 200
    return response.text.splitlines()[0].split(",")


def test_columns_are_there_for_what_the_answer_can_tell(client: TestClient, video: bytes) -> None:
    plain = columns(client, video)
    assert not [name for name in plain if name.endswith(("_change", "_rose"))]
    added = columns(client, video, baseline_s=1)[len(plain) :]
    assert added == [f"{name}_change" for name in ("valence", "arousal", *ACTION_UNITS)]  # there are no limits


@pytest.mark.usefixtures("fitted")
def test_a_whole_track_is_compared_with_its_low_levels(client: TestClient, video: bytes) -> None:
    samples = tracked(client, video, baseline="auto")
    valences = [sample["valence"] for sample in samples]
    log_odds = np.array([math.log(p / (1 - p)) for p in valences])
    rest = np.quantile(log_odds, 0.3)
    for sample, valence, odds in zip(samples, valences, log_odds, strict=True):
        assert sample["change"]["valence"]["value"] == pytest.approx(valence - np.median(valences))
        assert sample["change"]["AU12"]["value"] == pytest.approx(valence - 1 / (1 + math.exp(-rest)))
        assert sample["change"]["AU12"]["rose"] == (odds - rest > 1)
        assert sample["change"]["AU1"] == {"value": 0.0, "rose": False}


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize(
    ("params", "compared", "rose"),
    [
        ({}, None, None),
        ({"baseline_s": 0.15}, 8, {"AU12": 7 / 8, "AU1": 0.0}),
        ({"baseline_s": 60}, 0, None),
        # The rest of AU12 lies between levels 60 and 80, and log-odds from 140 on are more than 1 above it.
        ({"baseline": "auto"}, 10, {"AU12": 0.4, "AU1": 0.0}),
    ],
)
def test_a_summary_tells_how_often_units_rose(
    client: TestClient, video: bytes, params: dict, compared: int | None, rose: dict | None
) -> None:
    [track] = client.post("/analyze/video", files={"file": video}, params=params).json()["tracks"]
    summary = track["summary"]
    assert summary.get("compared") == compared
    told = summary.get("rose_share")
    assert (told and {name: told[name] for name in ("AU12", "AU1")}) == rose
    if "baseline" not in params:
        headers = {"accept": "application/x-ndjson"}
        stream = client.post("/analyze/video", files={"file": video}, params=params, headers=headers)
        [streamed] = json.loads(stream.text.splitlines()[-1])["tracks"]
        assert streamed["summary"] == summary


@pytest.mark.usefixtures("fitted")
def test_a_whole_track_is_not_compared_in_the_event_loop(
    client: TestClient, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_loop = []
    compared = Comparison.changes_in_track

    def noted(comparison: Comparison, levels: NDArray[np.float64]) -> Iterable[dict[str, Change]]:
        in_loop.append(asyncio.events._get_running_loop() is not None)
        return compared(comparison, levels)

    monkeypatch.setattr(Comparison, "changes_in_track", noted)
    assert len(tracked(client, video, baseline="auto")) == len(LEVELS)
    assert in_loop == [False]


def test_without_faces_there_is_nothing_to_compare(client: TestClient, tmp_path: Path) -> None:
    content = mp4(tmp_path / "b.mp4", [0] * 3, size=(64, 48))
    for params in ({"baseline": "auto"}, {"baseline_s": 1}):
        response = client.post("/analyze/video", files={"file": content}, params=params)
        assert (response.status_code, response.json()["tracks"]) == (200, [])


@pytest.mark.parametrize(
    ("params", "accept", "detail"),
    [
        ({"baseline_s": 1, "baseline": "auto"}, "*/*", "baseline_s: give either"),
        (
            {"baseline": "auto"},
            "application/x-ndjson",
            "baseline: `auto` is known at the end only; ask for application/json",
        ),
        ({"baseline": "auto"}, "text/csv", "baseline: `auto` is known at the end only; ask for application/json"),
        ({"baseline_s": 1, "columns": "openface"}, "text/csv", "baseline_s: the columns `openface` have no place"),
        ({"baseline_s": 1, "columns": "fex"}, "text/csv", "baseline_s: the columns `fex` have no place"),
        ({"baseline": "rest"}, "*/*", "baseline: "),
        ({"baseline_s": 0}, "*/*", "baseline_s: "),
        ({"baseline_s": -1}, "*/*", "baseline_s: "),
        ({"baseline_s": 60.1}, "*/*", "baseline_s: "),
        ({"baseline_s": "nan"}, "*/*", "baseline_s: "),
        ({"baseline_s": "inf"}, "*/*", "baseline_s: "),
    ],
)
def test_parameters_that_are_refused(client: TestClient, params: dict, accept: str, detail: str) -> None:
    response = client.post("/analyze/video", files={"file": b"x"}, params=params, headers={"accept": accept})
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_parameter"
    assert response.json()["detail"].startswith(detail)


@pytest.mark.parametrize("name", ["baseline", "baseline_s"])
def test_a_picture_has_no_baseline_parameter(client: TestClient, name: str) -> None:
    status, code, detail = refused(client, "/analyze/frame", {"file": png(9)}, **{name: "1"})
    assert (status, code, detail) == (422, "invalid_parameter", f"{name}: this route has no such parameter")
