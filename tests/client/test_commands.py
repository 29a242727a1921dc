"""What every command of `affect` does with wrong files and numbers, and where nobody reads its output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from affect_client import Affect
from affect_client.__main__ import COMMANDS, NOBODY_READS, main
from affect_client.commands import convert, plot
from tests.client.fake_service import MODELS, Answer, Seen, document, fake_service, in_turn
from tests.client.test_annotate import OneJob

SOURCES = Path(__file__).parents[2] / "client"
TABLE = "frame,time_s,track_id,valence,arousal\n0,0.0,1,0.5,0.25\n1,0.1,1,0.5,0.25\n"
BIDS = "{tmp}/sub-01_task-a_physio.tsv.gz"

READERS = [["plot", "{file}", "--out", "{tmp}/a.png"], ["convert", "eaf", "{file}"], ["convert", "bids", "{file}"]]
"""Commands that read a result of a video; the last one needs `--out` too."""

UPLOADERS = [
    ["analyze", "{file}", "--out", "{tmp}/out", "--url", "{url}"],
    ["annotate", "{file}", "--out", "{tmp}/a.mp4", "--url", "{url}"],
    ["watch", "--camera", "{file}", "--url", "{url}"],
]


def filled(words: list[str], **values: object) -> list[str]:
    out = ["--out", BIDS] if words[:2] == ["convert", "bids"] and "--out" not in words else []
    return [word.format(**values) for word in words + out]


def one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The only line that a command prints, which ends with status 1."""
    assert main(words) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"affect {words[0]}: ")
    assert "Errno" not in line
    return line


def write_kinds(folder: Path) -> None:
    """Files that are no results, and one that is."""
    contents = {
        "empty.csv": b"",
        "picture.csv": b"\x89PNG\r\n\x1a\n\0\xff",
        "long.csv": b"frame,time_s\n0," + b"1" * 200_000,
        "wide.csv": b"frame,time_s,track_id\n0,0.0,1,2,3\n",
        "endless.csv": b"frame,time_s,track_id\n0,inf,1\n",
        "nobody.csv": b"frame,time_s,track_id\n0,0.0,inf\n",
        "empty.json": b"",
        "list.json": b"[]",
        "deep.json": b"[" * 100_000,
        "picture.json": b"\x89PNG\r\n\x1a\n\0\xff",
        "text.ndjson": b"[1]\n",
        "empty.parquet": b"",
        "text.parquet": b"PAR1 and what is none PAR1",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[-2])
@pytest.mark.parametrize("suffix", ["csv", "json", "ndjson", "parquet"])
def test_results_that_are_not_there_are_told(
    words: list[str], suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / f"missing.{suffix}"
    assert f"{missing}: there is no such file or folder" in one_line(filled(words, file=missing, tmp=tmp_path), capsys)
    missing.mkdir()
    assert f"{missing}: is a folder, and not a file" in one_line(filled(words, file=missing, tmp=tmp_path), capsys)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[-2])
def test_what_is_no_result_is_told_with_its_name(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kinds(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert str(path) in one_line(filled(words, file=path, tmp=tmp_path), capsys)


def test_a_place_without_a_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder" in one_line(["plot", "/"], capsys)
    assert "is a folder" in one_line(["plot", "."], capsys)


@pytest.mark.parametrize("words", UPLOADERS[:2], ids=lambda words: words[0])
def test_media_that_are_not_there_are_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_service(in_turn(document(MODELS))) as server:
        told = one_line(filled(words, file=tmp_path / "missing", tmp=tmp_path, url=server.url), capsys)
    assert "missing" in told


@pytest.mark.parametrize("words", UPLOADERS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("name", "told"),
    [("missing", "there is no such file"), (".", "is a folder"), ("bytes", "is no text"), ("two", "holds 2 keys")],
)
def test_a_wrong_key_file_is_told(
    words: list[str], name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "two").write_text("one-key\nanother-key\n")
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    filled_words = filled(words, file=tmp_path / "clip.mp4", tmp=tmp_path, url="http://127.0.0.1:1")
    assert told in one_line([*filled_words, "--key-file", str(tmp_path / name)], capsys)


def test_a_folder_without_pictures_and_videos_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = one_line(["analyze", str(tmp_path), "--out", str(tmp_path / "out")], capsys)
    assert "there is no picture and no video in it" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plot", "{tmp}/clip.csv", "--out", "{tmp}/absent/a.png"], "absent: there is no such file or folder"),
        (["plot", "{tmp}/clip.csv", "--out", "{tmp}"], "is a folder, and not a file"),
        (["plot", "{tmp}/clip.csv", "--out", "{tmp}/clip.csv/a.png"], "clip.csv: leads through a file"),
        (["plot", "{tmp}/clip.csv", "--out", "{tmp}/" + "a" * 256], "aaa: the name is too long"),
        (["annotate", "{tmp}/clip.csv", "--out", "{tmp}/absent/a.mp4"], "absent: there is no such file or folder"),
        (["analyze", "{tmp}/clip.csv", "--out", "{tmp}", "--url", "http://127.0.0.1:99999"], "is no address"),
    ],
)
def test_what_cannot_be_used_is_told(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.csv").write_text(TABLE)
    with fake_service(in_turn(document(MODELS))) as server:
        assert told in one_line(filled(words, tmp=tmp_path, url=server.url), capsys)
        assert {seen.method for seen in server.seen} <= {"GET"}  # nothing was uploaded in vain


@pytest.mark.parametrize("words", [*READERS, UPLOADERS[1]], ids=lambda words: words[:2])
def test_control_c_is_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Affect, "job", interrupted)
    for command in (plot, convert):
        monkeypatch.setattr(command, "read_recording", interrupted)
    assert main(filled(words, file=tmp_path / "clip.csv", tmp=tmp_path, url="http://127.0.0.1:1")) == 130
    assert capsys.readouterr().err == f"affect {words[0]}: interrupted\n"


NUMBERS = {
    "analyze": ["--max-faces", "--min-confidence", "--fps", "--start-s", "--end-s", "--baseline-s", "--jobs"],
    "watch": ["--max-faces", "--min-confidence", "--fps"],
    "convert bids": ["--sampling-hz", "--start-time-s"],
    "convert eaf": ["--unit-threshold", "--expression-threshold", "--min-duration-s", "--max-gap-s"],
}


@pytest.mark.parametrize(
    ("command", "option", "number"),
    [
        (command, option, number)
        for command, options in NUMBERS.items()
        for option in options
        for number in ("inf", "nan", "-1", "1e999", "ten", "")
        if (option, number) != ("--start-time-s", "-1")  # an acquisition may begin later than its video
    ],
)
def test_numbers_out_of_range_are_refused(
    command: str, option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "a.csv", "--out", "b", f"{option}={number}"])
    assert caught.value.code == 2
    assert f"{number!r} is not a" in capsys.readouterr().err.splitlines()[-1]


PRINTING = {
    "help": ["--help"],
    **{f"help of {name}": [name, "--help"] for name in COMMANDS},
    "analyze": ["analyze", "{tmp}/clip.csv", "--format", "json", "--out", "{tmp}/out", "--url", "{url}"],
    "annotate": ["annotate", "{tmp}/clip.csv", "--out", "{tmp}/a.mp4", "--url", "{url}"],
    "plot": ["plot", "{tmp}/clip.csv"],
    "convert": ["convert", "eaf", "{tmp}/clip.csv", "--out", "{tmp}/clip.eaf"],
    "error": ["plot", "{tmp}/absent.csv"],
}


def answered(seen: Seen) -> Answer:
    """A service for which every video is the same."""
    if seen.path == "/models":
        return document(MODELS)
    is_job = "prefer" in seen.headers or seen.path.startswith("/jobs")
    return OneJob("succeeded")(seen) if is_job else document({"video": {"truncated": False}})


def ended(words: list[str], stdout: int, stderr: int) -> "subprocess.CompletedProcess[bytes]":
    # Python's output is buffered, as it is where nobody says otherwise, so errors come late.
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": ""}
    line = [sys.executable, "-m", "affect_client", *words]
    return subprocess.run(line, env=environment, stdout=stdout, stderr=stderr, timeout=120, check=False)


def pipe_that_nobody_reads() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_a_command_ends_quietly_where_nobody_reads(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text(TABLE)
    writing = pipe_that_nobody_reads()
    try:
        with fake_service(answered) as server:
            line = filled(words, tmp=tmp_path, url=server.url)
            told_nobody = ended(line, writing, subprocess.STDOUT)
            done = ended(line, writing, subprocess.PIPE)
    finally:
        os.close(writing)
    assert told_nobody.returncode == NOBODY_READS
    if "{tmp}/absent.csv" in words:
        assert done.returncode == 1  # its only line was read
    else:
        assert (done.returncode, done.stderr) == (NOBODY_READS, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text(TABLE)
    with open("/dev/full", "wb") as full:
        done = ended(["plot", str(tmp_path / "clip.csv")], full.fileno(), subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"affect: the output cannot be written: there is no space left\n"
