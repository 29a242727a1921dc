"""What the attack suite sends, how it judges answers, and that it attacks nobody else."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest

from benchmarks.attacks import groups
from benchmarks.attacks.__main__ import arguments, loopback, size
from benchmarks.attacks.answers import Answer, Part, judged, strict_json
from benchmarks.attacks.attack import Attack
from benchmarks.attacks.framing import BOUNDARY, broken_requests, damaged_request, file_part, form, request
from benchmarks.attacks.groups import memory_group
from benchmarks.attacks.live import BINARY, TEXT, frame, judged_message, parts, service_frames
from benchmarks.attacks.mutations import WAYS, mutated
from benchmarks.attacks.plan import PARTS, QUICK
from benchmarks.attacks.report import QUICK_BOUNDS, Bounds, Report, check, rendered
from benchmarks.attacks.seeds import FRAME_ROUTE, VIDEO_ROUTE, Media, whole_files
from benchmarks.attacks.watching import Footprint, Watch, footprint
from service.media.formats import Kind, recognise
from service.settings import Settings
from tests.service.http.serving import port_of, served

PROBLEM = "application/problem+json"
WHOLE = [Media("a", FRAME_ROUTE, bytes(range(256)) * 4), Media("b", VIDEO_ROUTE, b"....ftypmp42" + 500 * b"x")]


def problem(status: int, code: str) -> bytes:
    return json.dumps({"status": status, "code": code}).encode()


def test_there_is_a_whole_file_of_every_kind() -> None:
    found = {media.name: recognise(media.content) for media in whole_files()}
    names = {form.name for form in found.values() if form is not None}
    assert {"a JPEG picture", "a PNG picture", "a WebP picture", "a HEIC picture", "an AVIF picture"} <= names
    assert {"an MP4 video", "a QuickTime MOV video", "a WebM video", "a Matroska video", "an AVI video"} <= names
    assert {"a GIF animation", "an MPEG transport stream", "a Windows Media (WMV) video", "an Ogg file"} <= names
    routes = {media.name: media.route for media in whole_files()}
    kinds = {Kind.PICTURE: FRAME_ROUTE, Kind.VIDEO: VIDEO_ROUTE}
    assert all(form is not None and kinds[form.kind] == routes[name] for name, form in found.items())


def test_a_seed_gives_the_same_damage_again() -> None:
    first, second = ([mutated(WHOLE[0], WHOLE, Random(f"0:{number}")) for number in range(50)] for _ in range(2))
    assert first == second
    assert len({media.content for media in first}) > 40
    assert {media.route for media in first} == {FRAME_ROUTE}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_damages_files_of_any_length(way: str) -> None:
    for number in range(100):
        assert isinstance(WAYS[way](b"", b"", Random(number)), bytes)
    changed = [WAYS[way](WHOLE[0].content, WHOLE[1].content, Random(number)) for number in range(100)]
    assert sum(content != WHOLE[0].content for content in changed) >= 90


def test_a_request_is_whole_before_it_is_broken() -> None:
    body = form(file_part(b"picture"))
    head, _, sent = request(body).partition(b"\r\n\r\n")
    assert sent == body
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.count(b"--" + BOUNDARY) == 2
    assert damaged_request(b"picture", Random(3)) == damaged_request(b"picture", Random(3))
    assert len(set(broken_requests(b"picture").values())) == len(broken_requests(b"picture")) > 60


@pytest.mark.parametrize(
    ("status", "media_type", "body", "label", "fault"),
    [
        (200, "application/json", b'{"faces": []}', "200", ""),
        (200, "application/json", b'{"tracks": []}', "200", ""),
        (200, "application/json", b'{"faces": [NaN]}', "200", "no JSON"),
        (200, "application/json", b"{}", "200", "no result"),
        (422, PROBLEM, problem(422, "undecodable_media"), "422 undecodable_media", ""),
        (422, "application/json", b'{"detail": []}', "422 ", "no problem document"),
        (422, PROBLEM, problem(400, "undecodable_media"), "422 undecodable_media", "no problem document"),
        (503, PROBLEM, problem(503, "out_of_resources"), "503 out_of_resources", ""),
        (507, PROBLEM, problem(507, "storage_full"), "507 storage_full", ""),
        (500, PROBLEM, problem(500, "internal_error"), "500 internal_error", "names no lack"),
        (504, PROBLEM, problem(504, "deadline_exceeded"), "504 deadline_exceeded", "names no lack"),
        (200, "application/x-ndjson", b'{"type":"video"}\n{"type":"summary"}\n', "200", ""),
        (200, "application/x-ndjson", b'{"type":"video"}\n', "200", "no end"),
        (
            200,
            "application/x-ndjson",
            b'{"type":"error","status":500,"code":"internal_error"}\n',
            "200, then internal_error",
            "names no lack",
        ),
    ],
)
def test_answers_by_hand(status: int, media_type: str, body: bytes, label: str, fault: str) -> None:
    answer = judged(status, media_type, body)
    assert (answer.status, answer.label) == (status, label)
    assert fault in answer.fault
    assert bool(fault) is bool(answer.fault)


def test_json_has_no_nan() -> None:
    assert strict_json(b'{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="Infinity"):
        strict_json(b"[Infinity]")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000/", "http://[::1]:8000"])
def test_this_machine_may_be_attacked(url: str) -> None:
    assert loopback(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8000", "https://127.0.0.1", "http://0.0.0.0:1", "127.0.0.1:8000", ""]
)
def test_no_other_machine_may(url: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="on this machine"):
        loopback(url)


def test_sizes_and_parts_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert (size("4G"), size("512M")) == (4 * 2**30, 512 * 2**20)
    assert arguments([]).only == PARTS
    for wrong in (["--memory", "4"], ["--only", "everything"]):
        with pytest.raises(SystemExit) as ended:
            arguments(wrong)
        assert ended.value.code == 2
    assert "as in 4G" in capsys.readouterr().err


def part(name: str, *labels: str, **values: float) -> Part:
    made = Part(name, **values)  # type: ignore[arg-type]
    for label in labels:
        made.add(label)
    return made


def test_each_bound_can_be_broken() -> None:
    whole = Footprint(500, 400, 4, 20)
    report = Report([part("bomb", "413 too_many_pixels", begin_mb=500, peak_mb=1499, health_s=0.1)], whole, whole)
    assert check(report, Bounds()) == []
    assert "All bounds hold" in rendered(report)
    report.parts += [
        part("a large bomb", "200", begin_mb=500, peak_mb=1501),
        part("many", "200", "200", begin_mb=500, peak_mb=2501),  # the bound is that of one file
        part("slow", health_s=0.21),
    ]
    report.parts[-1].count(Answer(500, "500 internal_error", "a server's error"), "the file")
    report.end = Footprint(526, 400, 4, 25)
    report.beside_s = 1.1
    report.kills = 1
    report.errors = ["Traceback"]
    report.broken = check(report, Bounds())
    assert report.broken == [
        "slow: the file: 500 internal_error, a server's error",
        "slow: /healthz took 0.21 s, more than 0.2",
        "pictures beside long skips took 1.10 s, more than 1",
        "the system ended 1 processes for lack of memory",
        "the service logged Traceback",
        "a large bomb: 1001 MB more, above 1000",
        "resident memory grew from 500 to 526 MB",
        "open files grew from 20 to 25",
    ]
    assert report.broken[0] in rendered(report)


def test_a_group_bounds_what_runs_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(groups, "ROOTS", ((tmp_path, "memory.max", "memory.events"),))
    with memory_group(2**30) as group:
        assert group is not None
        assert (group.folder / "memory.max").read_text() == str(2**30)
        shown = subprocess.run([*group.prefix, "echo", "runs"], capture_output=True, text=True, check=True)
        assert shown.stdout == "runs\n"
        assert int((group.folder / "cgroup.procs").read_text()) > 0
        (group.folder / "memory.events").write_text("oom 3\noom_kill 2\n")
        assert group.kills() == 2


def test_without_cgroups_there_is_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "ROOTS", ((tmp_path / "none", "memory.max", "memory.events"),))
    with memory_group(2**30) as group:
        assert group is None


def test_a_footprint_counts_children() -> None:
    alone = footprint(os.getpid())
    assert alone.resident_mb >= alone.service_mb > 10
    waiting = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as child:
        both = footprint(os.getpid())
        child.communicate(b"\n")
    assert both.processes == alone.processes + 1
    assert both.descriptors >= 3


class _Unhealthy(BaseHTTPRequestHandler):
    """Answers every request with 503."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_a_watch_tells_what_it_has_seen_since_it_was_asked() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Unhealthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Watch("127.0.0.1", server.server_port, os.getpid()) as watch:
            while not (seen := watch.seen()).failures:
                pass
            assert watch.seen().failures <= 1  # no look of before is counted again
    finally:
        server.shutdown()
        server.server_close()
    assert 0 < seen.slowest_s < 30
    assert seen.peak_mb > 10


def test_live_connections_withstand_attacks(caplog: pytest.LogCaptureFixture) -> None:
    plan = replace(QUICK, only=("live",), rounds=0)
    with served(Settings(live_connections=12)) as server:
        attack = Attack(f"http://127.0.0.1:{port_of(server)}", None, plan, None)
        asyncio.run(attack.run())
    assert check(attack.report, QUICK_BOUNDS) == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    counted = {part.name: part.answers for part in attack.report.parts}
    assert counted["live connections"]["closed with 1002"] >= 12
    assert counted["more live connections than may be"] == {"live connection": 11, "429 overloaded": 8, "live frame": 1}
    assert counted["slow live connections"]["live frame"] >= 1


def test_frames_of_clients_by_hand() -> None:
    assert frame(BINARY, b"abc") == b"\x82\x83\0\0\0\0abc"
    assert frame(TEXT, b"abc", last=False, masked=False) == b"\x01\x03abc"
    assert frame(BINARY, bytes(300))[:4] == b"\x82\xfe\x01\x2c"
    assert frame(BINARY, length=2**16)[:10] == b"\x82\xff\0\0\0\0\0\x01\0\0"
    assert parts(b"abcde", 2) == frame(BINARY, b"ab", last=False) + frame(0, b"cde")


def test_frames_of_the_service_are_read_to_the_last_whole_one() -> None:
    sent = [b"abc", bytes(300), bytes(70_000)]
    received = b"".join(frame(TEXT, payload, masked=False) for payload in sent)
    assert list(service_frames(received)) == [(TEXT, payload) for payload in sent]
    assert list(service_frames(received[:-1])) == [(TEXT, payload) for payload in sent[:2]]


def test_messages_of_the_service_by_hand() -> None:
    assert judged_message('{"type": "frame"}') == Answer(None, "live frame")
    assert judged_message(b'{"type": "error", "status": 422, "code": "x"}') == Answer(None, "live error x")
    assert "names no lack" in judged_message('{"type": "error", "status": 500, "code": "internal_error"}').fault
    assert "no such message" in judged_message('{"type": "frames"}').fault
    assert "no JSON object" in judged_message("[NaN]").fault
