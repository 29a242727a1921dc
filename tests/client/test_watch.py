"""The command `affect watch`, whose camera is a video file."""

import csv
import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from affect_client import AffectError, LiveAnswer, live
from affect_client.__main__ import NOBODY_READS, main
from affect_client.commands import watch
from affect_client.commands.camera import camera_pictures
from affect_client.connection import Connection
from affect_client.faces import Face
from affect_client.lsl import LslOutlet
from affect_client.results import Model
from tests.client.fake_live import answer_each, fake_live, tracked
from tests.client.fake_service import MODEL, MODELS
from tests.service.media_files import mp4

JPEG = b"\xff\xd8\xff"


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A video of eight frames, ten a second."""
    mp4(tmp_path / "clip.mp4", [20 * number for number in range(8)])
    return str(tmp_path / "clip.mp4")


def test_a_file_is_played_at_its_own_pace(clip: str) -> None:
    clock = Clock()
    pictures = list(camera_pictures(clip, 100, clock, clock.sleep))
    assert len(pictures) == 8
    assert all(picture.startswith(JPEG) for picture in pictures)
    assert clock.now_s == pytest.approx(100.7)


@pytest.mark.parametrize(("fps", "count"), [(5, 4), (2.5, 2), (10, 8)])
def test_no_more_pictures_are_sent_than_asked_for(clip: str, fps: float, count: int) -> None:
    clock = Clock()
    assert len(list(camera_pictures(clip, fps, clock, clock.sleep))) == count


@pytest.mark.parametrize("source", ["absent.mp4", "9" * 20])
def test_a_camera_that_is_not_there_is_told(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="cannot be opened"):
        list(camera_pictures(source, 10))


@pytest.mark.usefixtures("_instead_of_the_service")
def test_it_ends_quietly_where_nobody_reads(clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = tmp_path / "told"
    with fake_live(answer_each) as live, open(writing, "w") as unread, told.open("w", buffering=1) as errors:
        monkeypatch.setattr(sys, "stdout", unread)
        monkeypatch.setattr(sys, "stderr", errors)
        assert main(["watch", "--camera", clip, "--url", live.url, "--fps", "100"]) == NOBODY_READS
    assert told.read_text() == ""


def model() -> Model:
    return Model.of(MODEL)


def answer(*faces: dict[str, object], sent_s: float = 0.0) -> LiveAnswer:
    return LiveAnswer(0, 0, sent_s, 0.0, tuple(Face.of(face) for face in faces), None)


@pytest.fixture
def _instead_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/models` is answered here, since the live channel has no other route."""
    monkeypatch.setattr(Connection, "document", lambda self, request: MODELS)


@pytest.mark.usefixtures("_instead_of_the_service")
def test_answers_are_shown_and_kept(clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "watched.csv"
    with fake_live(answer_each) as live:
        assert main(["watch", "--camera", clip, "--url", live.url, "--fps", "100", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    # A JPEG begins with 255, from which the fake channel makes the valence.
    face = "track 1 happiness 0.75 valence +2.55 arousal -2.55 AU12 not reliable (small, turned)"
    assert lines[:2] == [f"frame 0 at 0.00 s: {face}", f"frame 1 at 0.10 s: {face}"]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(number) for number in range(8)]
    assert {row["AU12"] for row in rows} == {"0.875"}


@pytest.mark.usefixtures("_instead_of_the_service")
def test_what_cannot_be_watched_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_live(answer_each) as live:
        assert main(["watch", "--camera", str(tmp_path / "absent.mp4"), "--url", live.url]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "absent.mp4 cannot be opened" in line
    assert main(["watch", "--camera", "0", "--url", "http://127.0.0.1:1"]) == 1
    assert "(unreachable)" in capsys.readouterr().err


@pytest.mark.usefixtures("_instead_of_the_service")
def test_an_earlier_table_is_left_alone(clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier, new = tmp_path / "earlier.csv", tmp_path / "new.csv"
    earlier.write_text("an hour of somebody's time")
    with fake_live(answer_each) as live:
        assert main(["watch", "--camera", clip, "--url", live.url, "--out", str(earlier)]) == 1
        assert main(["watch", "--camera", "absent.mp4", "--url", live.url, "--out", str(new)]) == 1
    assert "earlier.csv: is there already" in capsys.readouterr().err
    assert earlier.read_text() == "an hour of somebody's time"
    assert not new.exists()


def slow_pictures(stop: threading.Event) -> Iterator[bytes]:
    """A camera that gives one picture, and no second one until it is told to stop."""
    yield JPEG
    stop.wait(20)


@pytest.mark.usefixtures("_instead_of_the_service")
def test_a_camera_that_stalls_does_not_hide_why_it_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    monkeypatch.setattr(watch, "camera_pictures", lambda source, fps: slow_pictures(stop))
    monkeypatch.setattr(live, "CLOSE_S", 0.01)

    def broken(answer: LiveAnswer) -> str:
        raise OSError("the terminal is gone")

    monkeypatch.setattr(watch, "_line", broken)
    try:
        with fake_live(answer_each) as service:
            assert main(["watch", "--camera", "0", "--url", service.url]) == 1
    finally:
        stop.set()
    assert "the terminal is gone" in capsys.readouterr().err


@pytest.fixture
def lsl_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine alone is asked for streams; liblsl reads its settings once, at its first call."""
    pylsl = pytest.importorskip("pylsl", reason="pylsl is absent: install the extra `lsl`")
    pylsl.set_config_content(
        "[multicast]\nResolveScope = machine\nMachineAddresses = {127.0.0.1, FF31:113D:6FDD:2C17:A643:FFE2:1BD1:3CD2}\n"
        "[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -3\n"
    )


def test_channels_of_a_stream_and_what_is_not_there(lsl_on_loopback: None) -> None:
    outlet = LslOutlet("affect-test-channels", model(), ["neutral", "happiness"])
    assert outlet.channels == [
        *("track_id", "reliable", "valence", "arousal", "AU1", "AU12"),
        *("expression_neutral", "expression_happiness"),
    ]
    assert outlet.sample(answer(tracked(0.5, 3), tracked(0.1, 4))) == [3, 0, 0.5, -0.5, 0.125, 0.875, 0.25, 0.75]
    assert all(map(math.isnan, outlet.sample(answer())))
    failed = LiveAnswer(0, 0, 0.0, None, (), AffectError("bad", "undecodable_media"))
    assert all(map(math.isnan, outlet.sample(failed)))


def test_closed_eyes_are_a_channel_where_a_bundle_tells_them(lsl_on_loopback: None) -> None:
    told = model()
    tasks = {**told.tasks, "eyes_closed": told.tasks["expression"]}
    outlet = LslOutlet("affect-test-eyes", replace(told, tasks=tasks), ["neutral"])
    assert outlet.channels[-1] == "eyes_closed"
    blinking = tracked(0.5) | {"eyes_closed": {"probability": 0.75, "active": True}}
    assert outlet.sample(answer(blinking))[-1] == 0.75
    assert math.isnan(outlet.sample(answer(tracked(0.5)))[-1])


def test_an_inlet_pulls_the_samples_with_the_times_of_sending(lsl_on_loopback: None) -> None:
    import pylsl

    clock = Clock()
    outlet = LslOutlet("affect-test-stream", model(), ["neutral", "happiness"], clock)
    found = pylsl.resolve_byprop("name", "affect-test-stream", timeout=10)
    if not found:
        pytest.skip("this machine resolves no LSL streams, not even of its own: multicast is impossible")
    inlet = pylsl.StreamInlet(found[0])
    try:
        inlet.open_stream(timeout=10)
        info = inlet.info(timeout=10)
        assert info.type() == "Face"
        assert info.get_channel_labels() == outlet.channels
        assert info.desc().child("bundles").child_value("expression") == f"fake 7 {'0' * 64} derived"
        assert outlet._outlet.wait_for_consumers(10)
        before_s = pylsl.local_clock()
        outlet.push(answer(tracked(0.5), sent_s=clock.now_s - 0.25))
        outlet.push(answer(sent_s=clock.now_s))
        after_s = pylsl.local_clock()
        sample, sent_s = inlet.pull_sample(timeout=10)
        assert sample == [1, 0, 0.5, -0.5, 0.125, 0.875, 0.25, 0.75]
        assert before_s - 0.25 <= sent_s <= after_s - 0.25
        nobody, _ = inlet.pull_sample(timeout=10)
        assert all(map(math.isnan, nobody))
    finally:
        inlet.close_stream()


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(ImportError, match=r"facial-affect-service\[lsl\]"):
        LslOutlet("affect", model(), [])
