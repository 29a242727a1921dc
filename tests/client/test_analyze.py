"""The command `affect analyze`, as a process where signals matter."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from affect_client import Affect
from affect_client.__main__ import main
from affect_client.commands.analyze import Batch
from affect_client.commands.folder import MANIFEST
from affect_client.commands.inputs import Input
from tests.client.fake_service import (
    MODELS,
    Answer,
    FakeService,
    Seen,
    document,
    face,
    fake_service,
    in_turn,
    picture_document,
    refused,
)

SOURCES = Path(__file__).parents[2] / "client"
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in a background job, which ignores it
from affect_client.__main__ import main
sys.exit(main())
"""
JPEG = b"\xff\xd8\xff"
DAMAGED = b"damaged"
TRUNCATED = b"# truncated: the file is damaged and ended early\n"


def table_of(content: bytes) -> bytes:
    """The table that the service gives for a video."""
    return f"frame,time_s\n0,{hashlib.sha256(content).hexdigest()}\n".encode()


class Service:
    """Answers as the real one; the video that comes as number `stops_at` is answered by half, until `go_on` is set."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.stops_at = stops_at
        self.stopping = threading.Event()
        self.go_on = threading.Event()
        self.videos = 0
        self.lock = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/models":
            return document(MODELS)
        content = seen.part("file") or b""
        if DAMAGED in content:
            return refused(422, "undecodable_media")
        if seen.path == "/analyze/frame":
            return document(picture_document(*[face()] * (len(content) - len(JPEG))))
        with self.lock:
            self.videos += 1
            number = self.videos
        table = table_of(content)
        return Answer(200, {}, self._stopping(table) if number == self.stops_at else [table])

    def _stopping(self, table: bytes) -> Iterator[bytes]:
        yield table[:20]
        self.stopping.set()
        self.go_on.wait(20)
        yield table[20:]


@contextmanager
def served(service: Service) -> Iterator[FakeService]:
    with fake_service(service) as server:
        try:
            yield server
        finally:
            service.go_on.set()


def write_clips(folder: Path, good: int, bad: int) -> None:
    folder.mkdir()
    for number in range(good):
        (folder / f"good{number:02}.mp4").write_bytes(b"%d" % number * 50)
    for number in range(bad):
        (folder / f"bad{number}.mp4").write_bytes(b"%d" % number + DAMAGED)


@contextmanager
def command(*words: object) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    line = [sys.executable, "-c", COMMAND, "analyze", *map(str, words)]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def assert_nothing_is_half_written(out: Path) -> None:
    for path in out.rglob("*"):
        assert path.name == MANIFEST or path.suffix == ".csv"
    for path in out.glob("*.csv"):
        assert path.read_bytes() == table_of((out.parent / "clips" / path.stem).read_bytes())


def assert_each_once(out: Path, good: int, bad: int) -> None:
    """Every good file has its result and one line, and every bad one is named."""
    assert_nothing_is_half_written(out)
    entries = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    done = Counter(entry["result"] for entry in entries if entry["state"] == "done")
    assert done == {f"good{number:02}.mp4.csv": 1 for number in range(good)}
    assert sorted(path.name for path in out.glob("*.csv")) == sorted(done)
    failed = {Path(entry["file"]).name for entry in entries if entry["state"] == "failed"}
    assert failed == {f"bad{number}.mp4" for number in range(bad)}


@pytest.mark.parametrize("stops_at", random.Random(20).sample(range(1, 28), 2))
def test_a_killed_command_goes_on(stops_at: int, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    out = tmp_path / "out"
    write_clips(clips, good=27, bad=3)
    service = Service(stops_at)
    with served(service) as server:
        words = (clips, "--out", out, "--url", server.url, "--jobs", 3)
        with command(*words) as process:
            assert service.stopping.wait(30)
            process.kill()
            process.communicate()
        service.go_on.set()
        assert len(list(out.glob("*.csv"))) < 27
        with command(*words) as process:
            told, named = process.communicate(timeout=60)
    assert process.returncode == 1
    assert_each_once(out, good=27, bad=3)
    assert "3 failed" in told
    for number in range(3):
        assert f"bad{number}.mp4: it is undecodable_media" in named


def test_control_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", good=4, bad=0)
    service = Service(stops_at=3)
    with served(service) as server:
        with command(tmp_path / "clips", "--out", tmp_path / "out", "--url", server.url, "--jobs", 2) as process:
            assert service.stopping.wait(30)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "the same command goes on" in told
        assert "Traceback" not in told
        assert_nothing_is_half_written(tmp_path / "out")
        service.go_on.set()
        assert main(["analyze", str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--url", server.url]) == 0
    assert_each_once(tmp_path / "out", good=4, bad=0)


def test_an_interrupted_command_calls_no_file_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads may still read answers when the connections close, and must not write that down."""
    closed = []

    def interrupted(batch: Batch, inputs: Sequence[Input], jobs: int) -> int:
        monkeypatch.setattr(batch.folder, "close", lambda close=batch.folder.close: (closed.append("folder"), close()))
        monkeypatch.setattr(Affect, "close", lambda self, close=Affect.close: (closed.append("service"), close(self)))
        raise KeyboardInterrupt

    monkeypatch.setattr("affect_client.commands.analyze.analyze_all", interrupted)
    write_clips(tmp_path / "clips", good=1, bad=0)
    with served(Service()) as server:
        assert main(["analyze", str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--url", server.url]) == 130
    assert closed == ["folder", "service"]


def test_pictures_and_videos_get_their_own_parameters(tmp_path: Path) -> None:
    (tmp_path / "none.jpg").write_bytes(JPEG)
    (tmp_path / "two.jpg").write_bytes(JPEG + b"12")
    (tmp_path / "clip.gif").write_bytes(b"GIF89a")
    key = tmp_path / "key"
    key.write_text("secret\n")
    files = [str(tmp_path / name) for name in ("none.jpg", "two.jpg", "clip.gif")]
    with served(Service()) as server:
        words = [*files, "--out", str(tmp_path / "out"), "--url", server.url, "--key-file", str(key)]
        assert main(["analyze", *words, "--max-faces", "2", "--fps", "5", "--smoothing", "causal"]) == 0
        seen = {request.path: request.query for request in server.seen}
        assert {request.headers["authorization"] for request in server.seen} == {"Bearer secret"}
    assert seen["/analyze/frame"] == {"max_faces": "2"}
    assert seen["/analyze/video"] == {"max_faces": "2", "fps": "5.0", "smoothing": "causal"}
    assert (tmp_path / "out/clip.gif.csv").read_bytes() == table_of(b"GIF89a")
    nobody, two = ((tmp_path / f"out/{name}.jpg.csv").read_text().splitlines() for name in ("none", "two"))
    assert nobody == [two[0], "0,0.0" + "," * (two[0].count(",") - 1)]
    assert two[0].split(",")[-9:] == [
        "valence",
        "arousal",
        "expression",
        "expression_neutral",
        "expression_happiness",
        "AU1",
        "AU1_active",
        "AU12",
        "AU12_active",
    ]
    row = "0,0.0,,1.0,2.0,30.0,40.0,0.9,1.0,2.0,3.0,30,0.5,0,small turned,0.5,-0.5,happiness,0.25,0.75,0.125,0,0.875,1"
    assert two[1:] == [row, row]


def test_a_result_of_another_file_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "p01" / "smile.mp4", tmp_path / "p02" / "smile.mp4"
    for number, file in enumerate((first, second)):
        file.parent.mkdir()
        file.write_bytes(b"%d" % number * 50)
    with served(Service()) as server:
        words = ["--out", str(tmp_path / "out"), "--url", server.url]
        assert main(["analyze", str(first.parent), *words]) == 0
        whole = (tmp_path / "out" / "smile.mp4.csv").read_bytes()
        for _ in range(2):
            assert main(["analyze", str(second.parent), *words]) == 1
            told = capsys.readouterr().err
            assert (
                f"{second}: {tmp_path / 'out' / 'smile.mp4.csv'} is the result of {first}; give another --out" in told
            )
        assert (tmp_path / "out" / "smile.mp4.csv").read_bytes() == whole
        first.write_bytes(b"changed" * 50)
        assert main(["analyze", str(first.parent), *words]) == 0
    assert (tmp_path / "out" / "smile.mp4.csv").read_bytes() != whole


def test_ndjson(tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(JPEG + b"1")
    with served(Service()) as server:
        words = [str(tmp_path / "face.jpg"), "--out", str(tmp_path), "--url", server.url, "--format", "ndjson"]
        assert main(["analyze", *words]) == 0
    assert json.loads((tmp_path / "face.jpg.ndjson").read_text()) == picture_document(face())


def test_a_damaged_video_that_was_read_in_part_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    answers = in_turn(document(MODELS), Answer(200, {}, [table_of(b"clip"), TRUNCATED]))
    with fake_service(answers) as server:
        assert main(["analyze", str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out"), "--url", server.url]) == 0
    assert "clip.mp4: the file is damaged and ended early" in capsys.readouterr().err
    [entry] = [json.loads(line) for line in (tmp_path / "out" / MANIFEST).read_text().splitlines()]
    assert (entry["state"], entry["truncated"]) == ("done", True)


def test_a_wrong_key_ends_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clips(tmp_path / "clips", good=9, bad=0)
    words = [str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    with fake_service(in_turn(refused(401, "unauthorized"))) as server:
        assert main(["analyze", *words, "--url", server.url]) == 1
        assert len(server.seen) == 1
    assert "affect analyze: it is unauthorized" in capsys.readouterr().err
    with fake_service(in_turn(document(MODELS), refused(401, "unauthorized"))) as server:
        assert main(["analyze", *words, "--url", server.url]) == 1
    assert "1 failed, 8 not tried" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{tmp}/absent.mp4", "--out", "{tmp}/out"], "there is no such file or folder"),
        (["{tmp}/clip.mp4", "--out", "{tmp}/clip.mp4"], "clip.mp4: is a file, and not a folder"),
        (["{tmp}/clip.mp4", "--out", "{tmp}/out", "--url", "nowhere"], "is no address"),
        (["{tmp}/clip.mp4", "--out", "{tmp}/out", "--url", "http://127.0.0.1:1"], "(unreachable)"),
        (
            ["{tmp}/clip.mp4", "--out", "{tmp}/out", "--key-file", "{tmp}/absent"],
            "absent: there is no such file or folder",
        ),
    ],
)
def test_what_cannot_begin_is_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    assert main(["analyze", *(word.format(tmp=tmp_path) for word in words)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    "words", [["listen"], [], ["analyze", "a.mp4"], ["analyze", "a.mp4", "--out", "b", "--jobs", "0"]]
)
def test_what_there_is_not_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: affect" in capsys.readouterr().err


def test_a_file_that_cannot_be_sent_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    answers = in_turn(document(MODELS), Answer(200, {}, [b"frame\n", b"# error: not JSON\n"]))
    with fake_service(answers) as server:
        words = [str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out"), "--url", server.url]
        assert main(["analyze", *words]) == 1
    assert "(unexpected_answer)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST]
