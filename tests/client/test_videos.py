"""Videos frame by frame, and as the service's own documents."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affect_client import Affect, AffectError, MissingExtra, Progress, VideoStream
from tests.client.fake_service import MODEL, Answer, face, fake_service, in_turn, ndjson, problem

VIDEO = {"type": "video", "request_id": "r1", "model": MODEL, "video": {"width": 96, "height": 64, "start_s": 0.0}}
SPREAD = {"mean": 0.25, "std": 0.25, "min": 0.0, "max": 0.5}
SUMMARY = {
    "type": "summary",
    "tracks": [
        {
            "track_id": 1,
            "first_s": 0.0,
            "last_s": 0.2,
            "summary": {
                "valence": SPREAD,
                "expression_share": {"happiness": 1.0},
                "active_share": {"AU12": 0.5},
                "compared": 2,
                "rose_share": {"AU12": 1.0},
            },
        }
    ],
    "frames_analyzed": 3,
    "truncated": False,
    "timings_ms": {"total": 12.5},
}


def frame(number: int, *valences: float) -> dict[str, Any]:
    faces = [face(valence) | {"track_id": track_id} for track_id, valence in enumerate(valences, 1)]
    return {"type": "frame", "time_s": number / 10, "frame": number, "faces": faces}


def progress(done_s: float) -> dict[str, Any]:
    return {"type": "progress", "done_s": done_s, "duration_s": 2.0}


def test_frames_progress_and_the_summary() -> None:
    told: list[Progress] = []
    newer = {"type": "weather", "is": "fine"}  # objects of a kind that this client does not know
    answer = ndjson(VIDEO, frame(0, 0.5), progress(1.0), newer, frame(1), frame(2, 0.25, -0.5), SUMMARY)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect:
        frames = affect.video(b"clip", fps=10, smoothing="causal", progress=told.append)
        assert (frames.video.width, frames.video.duration_s, frames.request_id) == (96, None, "r1")
        with pytest.raises(ValueError, match="after the last frame"):
            _ = frames.summary
        found = [[each.valence for each in one.faces] for one in frames]
    [seen] = service.seen
    assert seen.query == {"fps": "10", "smoothing": "causal"}
    assert seen.headers["accept"] == "application/x-ndjson"
    assert found == [[0.5], [], [0.25, -0.5]]
    assert told == [Progress(1.0, 2.0)]
    [track] = frames.summary.tracks
    assert (frames.summary.frames_analyzed, track.last_s, track.arousal) == (3, 0.2, None)
    assert frames.summary.to_pandas().to_dict("records") == [
        {
            "track_id": 1,
            "first_s": 0.0,
            "last_s": 0.2,
            "valence_mean": 0.25,
            "valence_std": 0.25,
            "valence_min": 0.0,
            "valence_max": 0.5,
            "expression_share_happiness": 1.0,
            "active_share_AU12": 0.5,
            "compared": 2,
            "rose_share_AU12": 1.0,
        }
    ]


def test_an_error_of_the_callers_own_function_stays_what_it_is() -> None:
    def broken(progress: Progress) -> None:
        raise KeyError("mine")

    answer = ndjson(VIDEO, frame(0, 0.5), progress(1.0), SUMMARY)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect, pytest.raises(KeyError, match="mine"):
        list(affect.video(b"clip", progress=broken))


def test_without_pandas_no_frame_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with fake_service(in_turn(ndjson(VIDEO, frame(0, 0.5), SUMMARY))) as service, Affect(service.url) as affect:
        frames = affect.video(b"clip")
        with pytest.raises(MissingExtra, match=r"pip install 'facial-affect-service\[tables\]'"):
            frames.to_pandas()
        assert [each.frame for each in frames] == [0]


def test_a_frame_is_there_before_the_stream_ends() -> None:
    first_frame_read = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield json.dumps(VIDEO).encode() + b"\n" + json.dumps(frame(0, 0.5)).encode() + b"\n"
        assert first_frame_read.wait(10)
        text = json.dumps(SUMMARY).encode() + b"\n"
        yield text[:20]  # lines need not come whole
        yield text[20:]

    with fake_service(in_turn(Answer(200, {}, pieces()))) as service, Affect(service.url) as affect:
        frames = affect.video(b"clip")
        assert next(frames).faces[0].valence == 0.5
        first_frame_read.set()
        assert list(frames) == []
        assert frames.summary.frames_analyzed == 3


def test_leaving_ends_the_connection() -> None:
    left = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield json.dumps(VIDEO).encode() + b"\n"
        try:
            while True:
                yield json.dumps(frame(0, 0.5)).encode() + b"\n"
        finally:
            left.set()

    with fake_service(in_turn(Answer(200, {}, pieces()))) as service, Affect(service.url) as affect:
        with affect.video(b"clip") as frames:
            next(frames)
        assert left.wait(10)


def read(stream: VideoStream) -> int:
    return len(list(stream))


ERROR = problem(504, "deadline_exceeded") | {"type": "error"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ndjson(VIDEO, frame(0, 0.5), ERROR), "deadline_exceeded"),
        (ndjson(ERROR), "deadline_exceeded"),
        (ndjson(VIDEO, frame(0, 0.5)), "connection_lost"),
        (ndjson(VIDEO), "connection_lost"),
        (ndjson(), "connection_lost"),
        (ndjson(VIDEO | {"model": {}}), "unexpected_answer"),
        (ndjson(VIDEO, {"type": "frame", "time_s": 0.0}), "unexpected_answer"),
        (Answer(200, {}, [b"<html>\n"]), "unexpected_answer"),
    ],
)
def test_a_stream_that_fails(answer: Answer, code: str) -> None:
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect, pytest.raises(AffectError) as caught:
        read(affect.video(b"clip"))
    assert caught.value.code == code


def test_an_error_of_the_reader_is_the_readers() -> None:
    answer = ndjson(VIDEO, frame(0, 0.5), SUMMARY)

    def lose_its_way(affect: Affect) -> None:
        with affect.video(b"clip") as frames:
            for _ in frames:
                raise KeyError("mine")

    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect, pytest.raises(KeyError, match="mine"):
        lose_its_way(affect)


def test_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    answer = ndjson(VIDEO, frame(0, 0.5), progress(1.0), progress(2.0), SUMMARY)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect:
        assert read(affect.video(b"clip", progress=True)) == 1
    bar = capfd.readouterr().err
    assert "0/? s of video" in bar
    assert "2/2 s of video" in bar


def test_a_table_has_a_row_for_each_face_and_for_a_frame_without() -> None:
    answer = ndjson(VIDEO, frame(0, 0.5), frame(1), frame(2, 0.25, -0.5), SUMMARY)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect:
        table = affect.video(b"clip").to_pandas()
    assert table["frame"].tolist() == [0, 1, 2, 2]
    assert table["track_id"].fillna(-1).tolist() == [1, -1, 1, 2]
    assert table["AU12_active"].fillna(-1).tolist() == [1, -1, 1, 1]
    assert table["reasons"].dropna().unique().tolist() == ["small turned"]


CSV_TEXT = b"frame,time_s\n0,0.0\n"
TRUNCATED = b"# truncated: the file is damaged and ended early\n"


@pytest.mark.parametrize(
    ("media_type", "pieces", "truncated"),
    [
        ("text/csv", [CSV_TEXT], False),
        ("text/csv", [CSV_TEXT + TRUNCATED[:9], TRUNCATED[9:]], True),
        ("text/csv", [CSV_TEXT + b"1,0.1", b"\n", TRUNCATED], True),
        ("text/csv", [TRUNCATED, CSV_TEXT], False),  # it is the last line that counts
        ("application/x-ndjson", [b'{"type":"frame"}\n', json.dumps(SUMMARY).encode() + b"\n"], False),
        ("application/x-ndjson", [json.dumps(SUMMARY | {"truncated": True}).encode(), b"\n"], True),
        ("application/json", [b'{"request_id": "r1"}'], False),
    ],
)
def test_the_services_own_document_is_saved_as_it_is(
    media_type: str, pieces: list[bytes], truncated: bool, tmp_path: Path
) -> None:
    answer = Answer(200, {"X-Request-ID": "r1"}, pieces)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect:
        affect.save_video(b"clip", tmp_path / "out", media_type, baseline="auto")
        document = affect.video_answer(b"clip", media_type)
        assert b"".join(document) == b"".join(pieces)
    assert (document.request_id, document.truncated) == ("r1", truncated)
    assert (tmp_path / "out").read_bytes() == b"".join(pieces)
    assert service.seen[0].query == {"baseline": "auto"}
    assert service.seen[0].headers["accept"] == media_type


@pytest.mark.parametrize(
    ("name", "media_type", "content"),
    [
        ("clip.csv", "text/csv", CSV_TEXT),
        ("clip.JSON", "application/json", b'{"request_id": "r1"}'),
        ("clip.ndjson", "application/x-ndjson", json.dumps(SUMMARY).encode() + b"\n"),
    ],
)
def test_the_files_name_decides_about_the_document(name: str, media_type: str, content: bytes, tmp_path: Path) -> None:
    with fake_service(in_turn(Answer(200, {}, [content]))) as service, Affect(service.url) as affect:
        affect.save_video(b"clip", tmp_path / name)
    assert service.seen[0].headers["accept"] == media_type
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(
    ("media_type", "pieces", "code"),
    [
        ("text/csv", [CSV_TEXT, b"# error: " + json.dumps(ERROR).encode() + b"\n"], "deadline_exceeded"),
        ("application/x-ndjson", [json.dumps(ERROR).encode() + b"\n"], "deadline_exceeded"),
        ("application/x-ndjson", [b'{"type":"frame"}\n'], "connection_lost"),
        ("application/x-ndjson", [json.dumps(SUMMARY).encode()], "connection_lost"),  # without the end of its line
    ],
)
def test_a_document_that_fails_leaves_the_former_file(
    media_type: str, pieces: list[bytes], code: str, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("former")
    answer = Answer(200, {}, pieces)
    with fake_service(in_turn(answer)) as service, Affect(service.url) as affect, pytest.raises(AffectError) as caught:
        affect.save_video(b"clip", tmp_path / "out", media_type)
    assert caught.value.code == code
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "former")]


def test_a_page_in_place_of_a_table_is_no_result(tmp_path: Path) -> None:
    answer = Answer(200, {"Content-Type": "text/html"}, [b"<p>Please log in."])
    with (
        fake_service(in_turn(answer)) as service,
        Affect(service.url) as affect,
        pytest.raises(AffectError, match="unexpected_answer"),
    ):
        affect.save_video(b"clip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_document_whose_connection_breaks_leaves_no_file(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield CSV_TEXT
        raise BrokenPipeError

    answer = Answer(200, {}, pieces())
    with (
        fake_service(in_turn(answer)) as service,
        Affect(service.url) as affect,
        pytest.raises(AffectError, match="connection_lost"),
    ):
        affect.save_video(b"clip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
