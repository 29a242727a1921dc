"""Decoder processes: what they cost when a file kills them, which is one answer, and what is left, which is nothing."""

import gc
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from threading import Event
from typing import IO, Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service import app as service_app
from service.errors import NotReady, OutOfResources, TooManyPixels, UndecodableMedia
from service.media.decoders import DecoderPool, IsolatedSource, _anonymous_file, _seal_size
from service.media.limits import DecodeLimits
from service.media.videos import TimedFrame, Window
from service.media.worker import KEPT_BYTES
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import encoded, mp4, png
from tests.service.scheduling.clocks import wait_for

LIMITS = DecodeLimits(50_000_000, 600, 10_000)

SCRIPT = """
import os, sys, time
import numpy as np
from service.media import worker
from service.media.videos import MediaInfo, TimedFrame

class Source:
    info = MediaInfo(8, 8, fps=10.0)
    truncated = False
    def frames(self, cancelled):
        yield TimedFrame(np.zeros((8, 8, 3), np.uint8), 0.0, 0)
        {behaviour}

honest = worker.open_source
worker.open_source = lambda request, file: Source() if request["source"] == "video" else honest(request, file)
worker.main()
"""

BEHAVIOURS = {
    "dies": "os.kill(os.getpid(), 11)",
    "exits": "os._exit(0)",
    "takes 4 GB": "kept = [np.ones(2**26) for _ in range(8)]",
    "sleeps": "time.sleep(600)",
    "sends garbage": "os.write(int(sys.argv[1]), b'GET / HTTP/1.1' * 9)",
    "announces a huge frame": "worker.send(worker.socket.socket(fileno=int(sys.argv[1])), {'buffer': 2**40})",
    "tells of a frame that is not there": "worker.send(worker.socket.socket(fileno=int(sys.argv[1])), "
    "{'frame': 7, 'height': 9**9, 'width': 1, 'time_s': 0, 'index': 1}); time.sleep(600)",
    "tells nonsense of the file": "worker.send(worker.socket.socket(fileno=int(sys.argv[1])), "
    "{'info': {'width': []}}); time.sleep(600)",
    "tells a nonsensical error": "worker.send(worker.socket.socket(fileno=int(sys.argv[1])), "
    "{'error': [], 'limit': 3}); time.sleep(600)",
    "skips": "cancelled._told_s = -1; cancelled.is_set()",
    "waits": "while os.path.exists('{gate}'): time.sleep(0.01)",
    "fails": "raise ZeroDivisionError('a fault of ours')",
}


def command(behaviour: str) -> tuple[str, ...]:
    return sys.executable, "-c", SCRIPT.replace("{behaviour}", BEHAVIOURS[behaviour])


@contextmanager
def decoders(**options: Any) -> Iterator[DecoderPool]:
    with closing(DecoderPool(1, 1_000_000, **options)) as pool:
        yield pool


def shown(source: IsolatedSource, cancelled: Event | None = None) -> Generator[TimedFrame, None, None]:
    """The frames of a source, without the moments at which none is ready."""
    return (timed for timed in source.frames(cancelled or Event()) if timed is not None)


@pytest.fixture(scope="module", autouse=True)
def _freeze_what_other_tests_left() -> None:
    """Let `descriptors` look through what tests of this module leave alone, which takes 0.01 s instead of 0.4 s."""
    gc.collect()
    gc.freeze()


def descriptors() -> int:
    gc.collect()  # what other tests have left is not closed in between
    return len(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Processes of this one that run, or that nobody has waited for."""
    return {
        int(child) for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    }


def resident_mb(process: int | str = "self") -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 / 1e6


@contextmanager
def video_file(folder: Path, levels: list[int]) -> Iterator[IO[bytes]]:
    with NamedTemporaryFile(dir=folder) as file:
        file.write(mp4(folder / "made.mp4", levels))
        file.flush()
        yield file


def test_a_picture_is_that_of_the_file() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    with decoders() as pool:
        for _ in range(3):
            source = pool.picture(io.BytesIO(encoded(picture, ".png")), LIMITS)
            [timed] = [(each.frame.copy(), each.time_s, each.index) for each in shown(source)]
            assert (timed[0] == picture).all()
            assert timed[1:] == (0.0, 0)
            assert (source.info.width, source.info.height) == (50, 30)


def test_one_process_reads_one_file_after_the_other() -> None:
    with decoders() as pool:
        pool.start()
        before = children()
        for size in (20, 40, 10):
            source = pool.picture(io.BytesIO(png(100, size, size)), LIMITS)
            assert [timed.frame.shape for timed in shown(source)] == [(size, size, 3)]
        with pytest.raises(UndecodableMedia):
            list(shown(pool.picture(io.BytesIO(png(100)[:60]), LIMITS)))
        with pytest.raises(TooManyPixels) as error:
            list(shown(pool.picture(io.BytesIO(png(100)), DecodeLimits(100, 600, 10))))
        assert error.value.limit == {"name": "AFFECT_MAX_PIXELS", "value": 100}
        assert children() == before


@pytest.mark.parametrize("rolled", [False, True])
def test_a_picture_comes_from_memory_or_from_disk(rolled: bool) -> None:
    content = png(77, 64, 48)
    with decoders() as pool, SpooledTemporaryFile(max_size=10 if rolled else 10**6) as file:
        file.write(content)
        file.seek(0)
        [level] = [timed.frame.mean() for timed in shown(pool.picture(file, LIMITS))]
        assert level == pytest.approx(77, abs=2)


def test_a_videos_frames_are_those_of_the_file(tmp_path: Path) -> None:
    levels = list(range(20, 220, 10))
    with decoders() as pool, video_file(tmp_path, levels) as file:
        for _ in range(2):
            source = pool.video(file, LIMITS, Window(fps=10))
            read = [(timed.index, timed.time_s, timed.frame.mean()) for timed in shown(source)]
            assert [index for index, _, _ in read] == list(range(20))
            assert [time_s for _, time_s, _ in read] == pytest.approx([i / 10 for i in range(20)])
            assert [level for _, _, level in read] == pytest.approx(levels, abs=4)
            assert source.info.fps == pytest.approx(10)
            assert not source.truncated


def test_while_no_frame_is_ready_whoever_reads_is_told(tmp_path: Path) -> None:
    with decoders(command=command("skips")) as pool, video_file(tmp_path, [50]) as file:
        frames = pool.video(file, LIMITS, Window()).frames(Event())
        read = [timed is not None for timed in frames]
        assert read.count(True) == 1
        assert read[-1] is False  # behind its frame, the file is being skipped


def test_two_files_are_read_at_the_same_time(tmp_path: Path) -> None:
    with decoders() as pool, video_file(tmp_path, [50] * 9) as one, video_file(tmp_path, [150] * 9) as other:
        pairs = zip(
            shown(pool.video(one, LIMITS, Window())),
            shown(pool.video(other, LIMITS, Window())),
            strict=True,
        )
        levels = [(first.frame.mean(), second.frame.mean()) for first, second in pairs]
        assert levels == [(pytest.approx(50, abs=4), pytest.approx(150, abs=4))] * 9


def test_large_shared_memory_is_not_kept() -> None:
    side = int((KEPT_BYTES / 3) ** 0.5) + 50
    content = png(1, side, side)
    with decoders() as pool:
        list(shown(pool.picture(io.BytesIO(png(1)), LIMITS)))
        before_mb = resident_mb()
        [process] = {decoder._process.pid for decoder in pool._idle}
        decoder_mb = resident_mb(process)
        seen_mb = [timed.frame.max() + resident_mb() for timed in shown(pool.picture(io.BytesIO(content), LIMITS))]
        assert seen_mb[0] - before_mb > KEPT_BYTES / 1.1e6
        assert resident_mb() - before_mb < 10
        while resident_mb(process) - decoder_mb > 40:  # it lets go once it has told of the end
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("behaviour", "reason", "detail"),
    [
        ("dies", "crashed", "the decoder broke down over the file"),
        ("takes 4 GB", "memory", "the file needs more memory to decode than one file may have"),
        ("sleeps", "slow", "a frame of the file takes longer than 0.5 s to decode"),
        ("sends garbage", "crashed", "the decoder broke down over the file"),
        ("announces a huge frame", "crashed", "the decoder broke down over the file"),
        ("tells of a frame that is not there", "crashed", "the decoder broke down over the file"),
        ("tells nonsense of the file", "crashed", "the decoder broke down over the file"),
        ("tells a nonsensical error", None, "the file could not be decoded"),
        ("fails", None, "the file could not be decoded"),
    ],
)
def test_a_file_that_ends_its_decoder_is_an_error_of_the_file(
    tmp_path: Path, behaviour: str, reason: str | None, detail: str
) -> None:
    lost: list[str] = []
    with (
        decoders(command=command(behaviour), frame_s=30, on_loss=lost.append) as pool,
        video_file(tmp_path, [50] * 3) as file,
    ):
        list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))
        open_files, memory_mb = descriptors(), resident_mb()
        if behaviour == "sleeps":
            pool._frame_s = 0.5  # the process is up, so that its start takes none of this
        with pytest.raises(UndecodableMedia, match=detail):
            list(shown(pool.video(file, LIMITS, Window())))
        pool._frame_s = 30
        assert lost == ([reason] if reason else [])
        # The next file is read, and nothing is left of the last one.
        assert len(list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))) == 1
        assert descriptors() == open_files
        assert resident_mb() - memory_mb < 20
    assert not children() & set(_zombies())


@pytest.mark.parametrize(("script", "reason"), [("import time; time.sleep(600)", "slow"), ("1 / 0", "crashed")])
def test_a_decoder_that_does_not_start_is_not_the_files_fault(script: str, reason: str) -> None:
    lost: list[str] = []
    start_s = 0.1 if reason == "slow" else 60
    program = (sys.executable, "-c", script)
    with (
        decoders(command=program, start_s=start_s, on_loss=lost.append) as pool,
        pytest.raises(NotReady, match="does not start"),
    ):
        list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))
    assert lost == [reason]


def _zombies() -> Iterator[int]:
    for child in children():
        if ") Z " in Path(f"/proc/{child}/stat").read_text():
            yield child


def test_a_decoder_that_is_killed_from_outside_costs_one_answer(tmp_path: Path) -> None:
    with decoders() as pool, video_file(tmp_path, [50] * 40) as file:
        before = children()
        frames = shown(pool.video(file, LIMITS, Window()))
        next(frames)
        [process] = children() - before
        os.kill(process, signal.SIGKILL)
        # As the system does it where memory runs out.
        with pytest.raises(OutOfResources, match="not enough memory"):
            list(frames)
        assert len(list(shown(pool.video(file, LIMITS, Window())))) == 40


def test_an_idle_decoder_that_died_is_replaced() -> None:
    with decoders() as pool:
        before = children()
        pool.start()
        [process] = children() - before
        os.kill(process, signal.SIGKILL)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        assert len(list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))) == 1


@pytest.mark.parametrize("by", ["cancelling", "closing"])
def test_a_source_that_nobody_needs_frees_its_decoder(tmp_path: Path, by: str) -> None:
    with decoders() as pool, video_file(tmp_path, [50] * 90) as file:
        before = children()
        cancelled = Event()
        frames = shown(pool.video(file, LIMITS, Window()), cancelled)
        next(frames)
        used = children() - before
        if by == "cancelling":
            cancelled.set()
            assert list(frames) == []
        else:
            frames.close()
        assert not used & children()


def test_shared_memory_cannot_be_shrunk() -> None:
    with _anonymous_file() as file:
        os.truncate(file.fileno(), 4096)
        _seal_size(file.fileno())
        for size in (0, 8192):
            with pytest.raises(PermissionError):
                os.truncate(file.fileno(), size)


def test_a_decoder_gives_way_to_the_service() -> None:
    with decoders() as pool:
        list(shown(pool.picture(io.BytesIO(png(1)), LIMITS)))
        [decoder] = pool._idle
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, decoder._process.pid) == min(own + 5, 19)


def test_a_closed_pool_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    pool = DecoderPool(2, 1_000_000)
    pool.start()
    with video_file(tmp_path, [50] * 90) as file:
        frames = shown(pool.video(file, LIMITS, Window()))
        next(frames)
        pool.close()
        assert children() == before
        frames.close()
    with pytest.raises(NotReady):
        pool.lease()


def test_a_source_whose_pool_closes_tells_that_the_service_stops(tmp_path: Path) -> None:
    losses: list[str] = []
    pool = DecoderPool(1, 1_000_000, on_loss=losses.append)
    with video_file(tmp_path, [50] * 90) as file:
        frames = shown(pool.video(file, LIMITS, Window()))
        next(frames)
        pool.close()
        with pytest.raises(NotReady, match="the service is shutting down"):
            list(frames)
    assert losses == []


def test_a_process_that_cannot_be_started_is_not_the_files_fault() -> None:
    with decoders(command=("/absent/python",)) as pool, pytest.raises(NotReady):
        list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))


def test_decoders_end_with_the_service() -> None:
    script = (
        "import os, time; from service.media.decoders import DecoderPool; pool = DecoderPool(2, 10**6); pool.start(); "
        "print(*(each._process.pid for each in pool._idle), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    end_s = time.monotonic() + 20
    while any(_lives(worker) for worker in workers):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _lives(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_decoder_gets_none_of_the_services_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_API_KEYS", "a-secret-of-the-service")
    with decoders() as pool:
        before = children()
        pool.start()
        [process] = children() - before
        list(shown(pool.picture(io.BytesIO(png(9)), LIMITS)))
        assert b"secret" not in Path(f"/proc/{process}/environ").read_bytes()


@pytest.mark.parametrize("behaviour", ["dies", "takes 4 GB", "sends garbage"])
def test_over_http_one_request_fails_and_the_next_is_answered(
    tmp_path: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool(*args: Any, **options: Any) -> DecoderPool:
        return DecoderPool(*args, **options, command=command(behaviour))

    monkeypatch.setattr(service_app, "DecoderPool", pool)
    app = service_app.create_app(Settings(), FakeDetector(face_at(8, 8, 32)), FakePredictor())
    with TestClient(app) as client:
        film = mp4(tmp_path / "film.mp4", [50] * 5)
        failed = client.post("/analyze/video", files={"file": film})
        assert failed.status_code == 422
        assert failed.json()["code"] == "undecodable_media"
        answered = client.post("/analyze/frame", files={"file": png(204)})
        assert answered.status_code == 200
        metrics = client.get("/metrics").text
        reason = "memory" if behaviour == "takes 4 GB" else "crashed"
        assert f'affect_decoder_losses_total{{reason="{reason}"}} 1.0' in metrics


@pytest.mark.parametrize(("open_videos", "processes"), [(1, 1), (None, 2)])
def test_videos_whose_decoders_give_nothing_keep_no_picture_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_videos: int | None, processes: int
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    pools: list[DecoderPool] = []
    program, flag, script = command("waits")

    def pool(*args: Any, **options: Any) -> DecoderPool:
        waiting = program, flag, script.replace("{gate}", str(gate))
        pools.append(DecoderPool(*args, **options, frame_s=60, command=waiting))
        return pools[-1]

    monkeypatch.setattr(service_app, "DecoderPool", pool)
    settings = Settings(decode_workers=1, deadline_s=20, open_videos=open_videos)
    app = service_app.create_app(settings, FakeDetector(face_at(8, 8, 32)), FakePredictor())
    film = mp4(tmp_path / "film.mp4", [50])
    with TestClient(app) as client, ThreadPoolExecutor(2) as clients:
        videos = [clients.submit(client.post, "/analyze/video", files={"file": film}) for _ in range(2)]
        try:
            running = 'affect_in_flight{route="/analyze/video"} 2.0'
            wait_for(lambda: running in client.get("/metrics").text)
            for _ in range(5):
                assert client.post("/analyze/frame", files={"file": png(204)}).status_code == 200
            wait_for(lambda: len(pools[0]._used) == processes)  # a video that waits its turn has none
            assert not any(video.done() for video in videos)
        finally:
            gate.unlink()
        assert [video.result().status_code for video in videos] == [200, 200]
