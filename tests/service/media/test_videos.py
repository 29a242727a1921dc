import gc
import math
import os
import struct
from contextlib import nullcontext
from itertools import islice, pairwise
from pathlib import Path
from threading import Event

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import (
    InvalidParameter,
    NoVideoFrames,
    ServiceError,
    TooManyPixels,
    UndecodableMedia,
    UnsupportedMediaType,
    VideoTooLong,
)
from service.media.demuxing import VideoFile
from service.media.limits import DecodeLimits
from service.media.videos import Pace, Taken, TimedFrame, Window, open_video
from tests.service.media_files import noisy, numbered, video

LIMITS = DecodeLimits(max_pixels=1_000_000, max_video_s=60, max_frames=1000)
CODECS = {"mp4": "mp4v", "mov": "mp4v", "avi": "MJPG", "webm": "VP80", "mkv": "VP80"}
FURTHER = {"mpegts": "libx264", "mpeg": "mpeg2video", "asf": "wmv2", "flv": "flv"}
WIDTH, HEIGHT, FPS, COUNT = 64, 48, 25, 50
CLIPS = [parent / "shared" / "data" / "media" for parent in Path(__file__).parents[3:5]]
"""Where real clips may lie: in the repository or beside it."""


def picture(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """BGR: blue at the top, and grey below whose level tells the index."""
    image = np.full((HEIGHT, WIDTH, 3), 4 * index + 20, dtype=np.uint8)
    image[: HEIGHT // 2] = (255, 0, 0)
    return image


def index_shown(frame: TimedFrame) -> int:
    return round((float(frame.frame[HEIGHT * 3 // 4, WIDTH // 2].mean()) - 20) / 4)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds in each container, named without an extension, as uploads are; a gif of uneven timing."""
    folder = tmp_path_factory.mktemp("clips")
    for container, codec in CODECS.items():
        path = folder / f"clip.{container}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (WIDTH, HEIGHT))
        for index in range(COUNT):
            writer.write(picture(index))
        writer.release()
        path.rename(folder / container)
    images = [Image.fromarray(picture(index)[:, :, ::-1]) for index in range(10)]
    images[0].save(
        folder / "gif", "GIF", save_all=True, append_images=images[1:], duration=[100] * 5 + [300] * 5, loop=0
    )
    for form, codec in FURTHER.items():
        video(folder / form, numbered(COUNT), codec, form=form, sound_s=0 if form == "mpeg" else 1)
    return {path.name: path for path in folder.iterdir()}


def read(path: Path, *, fps: float = 1000, start_s: float = 0, end_s: float | None = None) -> list[TimedFrame]:
    with open_video(path, LIMITS, Window(fps=fps, start_s=start_s, end_s=end_s)) as video:
        return list(video)


def times(frames: list[TimedFrame]) -> list[float]:
    return [round(frame.time_s, 3) for frame in frames]


@pytest.mark.parametrize("container", CODECS)
def test_every_container_gives_upright_rgb_frames_with_times_and_indices(
    clips: dict[str, Path], container: str
) -> None:
    with open_video(clips[container], LIMITS, Window(fps=FPS)) as video:
        info = video.info
        assert (info.width, info.height, info.fps, info.duration_s) == (WIDTH, HEIGHT, FPS, 2.0)
        frames = list(video)
        assert not video.truncated
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert times(frames) == [round(index / FPS, 3) for index in range(COUNT)]
    assert [index_shown(frame) for frame in frames] == pytest.approx(list(range(COUNT)), abs=1)
    first = frames[0].frame
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert first.dtype == np.uint8
    assert first[4, 4].tolist() == pytest.approx([0, 0, 255], abs=20)


def test_decimation_follows_the_clock_and_does_not_drift(clips: dict[str, Path]) -> None:
    # At 25 frames a second: the first at or after 0.0, 0.1, 0.2 ... is 0, 3, 5, 8, 10 ...
    frames = read(clips["mp4"], fps=10)
    assert [frame.index for frame in frames] == [math.ceil(2.5 * k) for k in range(20)]
    assert [index_shown(frame) for frame in frames] == pytest.approx([frame.index for frame in frames], abs=1)
    assert [frame.index for frame in read(clips["mp4"], fps=0.6)] == [0, 42]


@pytest.mark.parametrize("fps", [25, 26, 1000])
def test_rates_of_the_source_and_above_take_every_frame(clips: dict[str, Path], fps: float) -> None:
    assert len(read(clips["webm"], fps=fps)) == COUNT


def test_variable_rates_keep_their_own_times(clips: dict[str, Path]) -> None:
    every = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.1, 1.4, 1.7]
    assert times(read(clips["gif"])) == every
    slow = read(clips["gif"], fps=2)  # due at 0, 0.5, 1.0, 1.5
    assert (times(slow), [frame.index for frame in slow]) == ([0, 0.5, 1.1, 1.7], [0, 5, 7, 9])


def test_a_window_is_half_open_and_keeps_the_source_s_indices(clips: dict[str, Path]) -> None:
    frames = read(clips["mp4"], start_s=0.4, end_s=0.6)
    assert [(frame.index, round(frame.time_s, 3)) for frame in frames] == [
        (10, 0.4),
        (11, 0.44),
        (12, 0.48),
        (13, 0.52),
        (14, 0.56),
    ]
    assert index_shown(frames[0]) == pytest.approx(10, abs=1)
    assert [frame.index for frame in read(clips["mp4"], fps=10, start_s=0.05, end_s=0.3)] == [2, 4, 7]
    assert read(clips["gif"], start_s=0.55, end_s=0.75) == []  # between two frames


def taken(times: list[float], fps: float) -> list[float]:
    pace = Pace(fps, times[0])
    return [time_s for time_s in times if pace.takes(time_s)]


def rate_is_kept(times: list[float], fps: float) -> bool:
    """No second, from any frame on, has more than `fps` of them."""
    return all(sum(first <= other < first + 1 - 1e-9 for other in times) <= math.ceil(fps) for first in times)


class TestPace:
    """The rate is a bound, whatever the clip's frame rate does."""

    def test_one_second_of_sixty_then_one_a_second(self) -> None:
        times = [n / 60 for n in range(60)] + [float(n) for n in range(1, 13)]
        assert taken(times, 10) == [0.0, *(n / 60 for n in range(6, 60, 6)), *range(1, 13)]

    def test_a_hundred_a_second_then_one_in_ten_seconds(self) -> None:
        times = [round(n / 100, 2) for n in range(6000)] + [60.0 + 10 * n for n in range(10)]
        counts = [len(taken(times, fps)) for fps in (9, 10, 11, 12, 50, 100)]
        assert counts == [550, 610, 670, 730, 3010, 6010]

    @pytest.mark.parametrize("rate", [12, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 100, 120, 240])
    @pytest.mark.parametrize("tick", [1000, 90_000, 12_800])
    def test_a_constant_rate_is_taken_whole_however_times_are_rounded(self, rate: float, tick: int) -> None:
        times = [round(round(0.023 + n / rate * tick) / tick, 6) for n in range(1000)]
        for fps in (rate, math.ceil(rate), 2 * rate, 1000):
            assert taken(times, fps) == times

    @pytest.mark.parametrize("rate", [24, 25, 29.97, 30, 60])
    @pytest.mark.parametrize("fps", [1, 5, 8, 10, 15])
    def test_a_constant_rate_is_thinned_evenly(self, rate: float, fps: float) -> None:
        found = taken([round(n / rate, 3) for n in range(round(60 * rate))], fps)
        assert len(found) == pytest.approx(60 * fps, rel=0.005)
        gaps = [later - earlier for earlier, later in pairwise(found)]
        assert max(gaps) < 1 / fps + 1 / rate + 0.002
        assert min(gaps) > 1 / fps - 1 / rate - 0.002

    @settings(deadline=None)
    @given(
        gaps=st.lists(st.integers(1, 400), min_size=1, max_size=200),
        rates=st.lists(st.floats(0.5, 200), min_size=2, max_size=4),
    )
    def test_the_bound_holds_and_more_is_never_less(self, gaps: list[int], rates: list[float]) -> None:
        times = [round(sum(gaps[:n]) / 1000, 3) for n in range(len(gaps))]
        found = [taken(times, fps) for fps in sorted(rates)]
        assert [len(each) for each in found] == sorted(len(each) for each in found)
        assert all(rate_is_kept(each, fps) for each, fps in zip(found, sorted(rates), strict=True))


ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "keyframes only": ("libx264", {"g": "1", "preset": "ultrafast"}),
    "one keyframe": ("libx264", {"g": "1000", "preset": "ultrafast", "sc_threshold": "0"}),
    "closed groups": ("libx264", {"g": "12", "preset": "veryfast", "bf": "3", "sc_threshold": "0"}),
    "open groups": ("libx264", {"g": "12", "preset": "veryfast", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "open groups of MPEG-2": ("mpeg2video", {"g": "12", "bf": "2", "sc_threshold": "1000000000"}),
    "open groups of HEVC": (
        "libx265",
        {
            "preset": "ultrafast",
            "x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0",
        },
    ),
    "refreshed bit by bit": ("libx264", {"g": "12", "preset": "veryfast", "x264-params": "intra-refresh=1"}),
    "fields": ("mpeg2video", {"g": "12", "bf": "2", "flags": "+ildct+ilme", "field_order": "tt"}),
    "hidden frames": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "realtime"}),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name, (codec, _) in ENCODERS.items()
        for form in ("matroska", "mp4", "mpegts", "avi")
        if (codec, form) not in {("libvpx", "mp4"), ("libvpx", "mpegts"), ("libx265", "avi")}
    ],
)
def test_seeking_gives_exactly_the_frames_of_a_whole_reading(tmp_path: Path, name: str, form: str) -> None:
    codec, options = ENCODERS[name]
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT + 60, WIDTH + 60, 3), np.uint8), (0, 0), 3)
    frames = [np.ascontiguousarray(ground[n % 60 : n % 60 + HEIGHT, n % 47 : n % 47 + WIDTH]) for n in range(60)]
    path = video(tmp_path / "clip", frames, codec, options=options, form=form)
    whole = read(path)
    assert [frame.index for frame in whole] == list(range(60))
    for position in (1, 11, 12, 13, 23, 24, 25, 37, 59):
        found = read(path, start_s=whole[position].time_s)
        assert [(each.index, each.time_s) for each in found] == [(each.index, each.time_s) for each in whole[position:]]
        assert all(np.array_equal(one.frame, other.frame) for one, other in zip(found, whole[position:], strict=True))


def test_a_refresh_that_the_end_of_the_video_cuts_short_is_decoded_from_the_beginning(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=20"}
    path = video(tmp_path / "clip.mp4", noisy(30, (320, 64)), "libx264", options=options, fps=10)
    assert [frame.index for frame in read(path, start_s=2.5)] == [25, 26, 27, 28, 29]


class CountedDecodes:
    """Counts the packets that libav decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        decoded = VideoFile._decoded

        def counting(file: VideoFile, packet: av.Packet, is_first: bool) -> list[av.VideoFrame]:
            self.count += 1
            return decoded(file, packet, is_first)

        monkeypatch.setattr(VideoFile, "_decoded", counting)


def test_a_window_at_the_end_decodes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "long.mp4", numbered(1500), "libx264", options={"g": "50", "preset": "ultrafast"})
    decodes = CountedDecodes(monkeypatch)
    assert [frame.index for frame in read(path, start_s=58)] == list(range(1450, 1500))
    assert decodes.count <= 110  # the window, a group before it, and the file's first frame
    decodes.count = 0
    with pytest.raises(InvalidParameter, match=r"start_s: the video's last frame is at 59.960 s"):
        read(path, start_s=60)
    assert decodes.count <= 5


@pytest.mark.parametrize("container", [*CODECS, *FURTHER, "gif"])
def test_a_reading_goes_on_behind_any_frame_of_an_earlier_one(clips: dict[str, Path], container: str) -> None:
    window = Window(fps=8, start_s=0.2)
    with open_video(clips[container], LIMITS, window) as video:
        whole = list(video)
        info = video.info
    pace = Pace(window.fps, window.begin_s(info))
    for count, last in enumerate(whole, 1):
        assert pace.takes(last.time_s)
        with open_video(clips[container], LIMITS, window, taken=pace.taken) as video:
            rest = list(video)
            assert (video.info, video.truncated) == (info, False)
        assert [(frame.time_s, frame.index) for frame in rest] == [(each.time_s, each.index) for each in whole[count:]]
        assert all(np.array_equal(one.frame, other.frame) for one, other in zip(rest, whole[count:], strict=True))


def test_an_earlier_reading_counts_towards_the_limits(clips: dict[str, Path]) -> None:
    limits = DecodeLimits(max_pixels=1_000_000, max_video_s=60, max_frames=20)
    for count, refused in ((11, nullcontext()), (12, pytest.raises(VideoTooLong))):  # and nine frames are left of ten
        taken = Taken(count, last_s=0.05, due_s=0.05, last_second_s=())
        with open_video(clips["gif"], limits, Window(fps=1000), taken=taken) as video, refused:
            assert len(list(video)) == 9


def test_the_rate_of_a_clip_that_slows_down_is_a_bound(tmp_path: Path) -> None:
    times = [n / 60 for n in range(60)] + [float(n) for n in range(1, 13)]
    path = video(tmp_path / "slows.mkv", numbered(72), "ffv1", times=times)
    frames = read(path, fps=10)
    assert [frame.index for frame in frames] == [*range(0, 60, 6), *range(60, 72)]
    assert [round(frame.time_s, 3) for frame in frames] == [*(n / 10 for n in range(10)), *range(1, 13)]


@pytest.mark.parametrize(
    ("parameter", "window"),
    [
        ("start_s", {"start_s": 2.0}),
        ("start_s", {"start_s": 1e9}),
        ("start_s", {"start_s": -0.1}),
        ("start_s", {"start_s": math.nan}),
        ("end_s", {"start_s": 1.0, "end_s": 1.0}),
        ("end_s", {"end_s": math.nan}),
        ("fps", {"fps": 0}),
        ("fps", {"fps": math.inf}),
    ],
)
def test_impossible_windows_name_their_parameter(
    clips: dict[str, Path], parameter: str, window: dict[str, float]
) -> None:
    with pytest.raises(InvalidParameter, match=f"^{parameter}: "):
        read(clips["mp4"], **window)


def with_rotation(data: bytes) -> bytes:
    """An MP4 whose track header asks players to turn the picture by a quarter, clockwise."""
    matrix = data.index(b"tkhd") + 44
    turn = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    return data[:matrix] + turn + data[matrix + 36 :]


def test_rotation_is_applied_and_the_info_is_that_of_upright_frames(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "turned"
    path.write_bytes(with_rotation(clips["mp4"].read_bytes()))
    with open_video(path, LIMITS, Window(fps=1)) as video:
        assert (video.info.width, video.info.height) == (HEIGHT, WIDTH)
        frame = next(iter(video)).frame
    assert frame.shape == (WIDTH, HEIGHT, 3)
    assert frame[4, HEIGHT - 4].tolist() == pytest.approx([0, 0, 255], abs=20)  # the top went to the right


@pytest.mark.parametrize("container", ["webm", "mkv", "avi", "gif"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_file_gives_what_was_read_and_says_so(
    clips: dict[str, Path], tmp_path: Path, container: str, share: float
) -> None:
    data = clips[container].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    with open_video(path, LIMITS, Window(fps=1000)) as video:
        assert not video.truncated  # not known yet
        frames = list(video)
        assert video.truncated
    assert 0 < len(frames) <= (10 if container == "gif" else COUNT)


def test_an_mp4_cut_before_its_index_cannot_be_decoded(clips: dict[str, Path], tmp_path: Path) -> None:
    data = clips["mp4"].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UndecodableMedia, match="MP4"):
        read(path)


def test_a_file_with_a_hole_ends_early(clips: dict[str, Path], tmp_path: Path) -> None:
    # Its size is right, so only the frames that are missing give it away.
    data = clips["mkv"].read_bytes()
    path = tmp_path / "hole"
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with open_video(path, LIMITS, Window(fps=1000)) as video:
        assert len(list(video)) < COUNT
        assert video.truncated


def test_a_window_that_ends_before_the_cut_is_whole(clips: dict[str, Path], tmp_path: Path) -> None:
    data = clips["avi"].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    with open_video(path, LIMITS, Window(fps=1000, end_s=0.2)) as video:
        assert len(list(video)) == 5
        assert not video.truncated


def test_too_many_pixels(clips: dict[str, Path]) -> None:
    with pytest.raises(TooManyPixels) as caught:
        open_video(clips["mp4"], DecodeLimits(WIDTH * HEIGHT - 1, 60, 1000), Window(fps=1))
    assert caught.value.limit == {"name": "AFFECT_MAX_PIXELS", "value": WIDTH * HEIGHT - 1}


def test_a_video_is_too_long_by_its_requested_part(clips: dict[str, Path]) -> None:
    limits = DecodeLimits(1_000_000, max_video_s=1.5, max_frames=1000)
    with pytest.raises(VideoTooLong) as caught:
        open_video(clips["mp4"], limits, Window(fps=1))
    assert caught.value.limit == {"name": "AFFECT_MAX_VIDEO_S", "value": 1.5}
    for window in ({"start_s": 0.5}, {"end_s": 1.5}):
        with open_video(clips["mp4"], limits, Window(fps=1000, **window)) as video:
            assert len(list(video)) == 37 + ("end_s" in window)  # frames 13 to 49, and 0 to 37


def test_a_video_has_too_many_frames_to_analyse(clips: dict[str, Path]) -> None:
    limits = DecodeLimits(1_000_000, max_video_s=60, max_frames=20)
    with open_video(clips["mp4"], limits, Window(fps=10)) as video:
        assert len(list(video)) == 20
    with pytest.raises(VideoTooLong) as caught:
        open_video(clips["mp4"], limits, Window(fps=11))
    assert caught.value.limit == {"name": "AFFECT_MAX_FRAMES", "value": 20}


def without_length(data: bytes) -> bytes:
    """A Matroska file without its duration element, like a live recording's: the element becomes padding."""
    position = data.index(b"\x44\x89\x88")
    return data[:position] + b"\xec\x89" + data[position + 2 : position + 11] + data[position + 11 :]


@pytest.mark.parametrize(("limit", "read_first"), [("AFFECT_MAX_VIDEO_S", 26), ("AFFECT_MAX_FRAMES", 20)])
def test_limits_hold_where_the_container_announces_nothing(
    clips: dict[str, Path], tmp_path: Path, limit: str, read_first: int
) -> None:
    path = tmp_path / "live"
    path.write_bytes(without_length(clips["mkv"].read_bytes()))
    limits = DecodeLimits(1_000_000, max_video_s=1, max_frames=20 if limit == "AFFECT_MAX_FRAMES" else 1000)
    with open_video(path, limits, Window(fps=1000)) as video:
        assert video.info.duration_s is None
        frames = iter(video)
        assert [frame.index for frame in islice(frames, read_first)] == list(range(read_first))
        with pytest.raises(VideoTooLong) as caught:
            next(frames)
    assert caught.value.limit is not None
    assert caught.value.limit["name"] == limit


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for name, codec in {"mp4": "aac", "matroska": "aac"}.items():
        path = tmp_path / name
        with av.open(str(path), "w", format=name) as container:
            stream = container.add_stream(codec, rate=44_100)
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), format="fltp", layout="stereo")
            sound.rate = 44_100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
        with pytest.raises(NoVideoFrames, match="no picture"):
            read(path)


def test_a_container_without_a_frame_is_no_video(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "empty"
    data = clips["avi"].read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(NoVideoFrames):
        read(path)


@pytest.mark.parametrize(
    "data", [b"", b"#EXTM3U\nhttp://host/", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x01Gd"]
)
def test_other_formats_are_not_supported(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(UnsupportedMediaType):
        read(path)


def test_cancelling_ends_the_iteration_even_amid_a_skip(clips: dict[str, Path]) -> None:
    cancelled = Event()
    with open_video(clips["mp4"], LIMITS, Window(fps=1000), cancelled) as video:
        frames = iter(video)
        assert next(frames).index == 0
        cancelled.set()
        assert list(frames) == []
        assert not video.truncated
    with open_video(clips["mp4"], LIMITS, Window(fps=1, start_s=1), cancelled) as video:
        assert list(video) == []


def open_files(path: Path) -> int:
    links = (os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
    return sum(link == os.path.realpath(path) for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see open files")
def test_the_file_is_closed_on_every_path(clips: dict[str, Path]) -> None:
    path = clips["mp4"]
    gc.disable()
    try:
        with pytest.raises(TooManyPixels):
            open_video(path, DecodeLimits(1, 60, 1000), Window(fps=1))
        with open_video(path, LIMITS, Window(fps=1)) as video:
            assert open_files(path) == 1
            next(iter(video))
        assert open_files(path) == 0
        with pytest.raises(InvalidParameter):
            read(path, start_s=5)
        assert open_files(path) == 0
    finally:
        gc.enable()


def test_one_frame_is_held_at_a_time(clips: dict[str, Path]) -> None:
    def alive() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    gc.collect()
    gc.disable()
    before = alive()
    try:
        with open_video(clips["mp4"], LIMITS, Window(end_s=0.5, fps=1000)) as video:
            assert max(alive() - before for _ in video) <= 4  # as decoded and as shown, of this frame and the last
    finally:
        gc.enable()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    container=st.sampled_from(["mp4", "avi", "webm", "gif", *FURTHER]),
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0, 1),
)
def test_no_bytes_raise_anything_but_service_errors(
    clips: dict[str, Path], tmp_path: Path, container: str, changes: list[tuple[int, int]], cut: float
) -> None:
    data = bytearray(clips[container].read_bytes())
    for position, value in changes:
        data[position % len(data) if position % 2 else position % 300] = value
    path = tmp_path / "damaged"
    path.write_bytes(data[: int(len(data) * cut)] if changes[0][1] % 2 else data)
    try:
        with open_video(path, LIMITS, Window(fps=10)) as video:
            frames = list(video)
    except ServiceError:
        return
    assert all(a.time_s < b.time_s and a.index < b.index for a, b in pairwise(frames))


@pytest.mark.parametrize(
    ("name", "size", "half_seconds"),
    [("single_face.mp4", (640, 360), 5), ("face_noface.mov", (960, 540), 13), ("no_face.mp4", (960, 540), 8)],
)
def test_real_clips_are_read_to_their_end(name: str, size: tuple[int, int], half_seconds: int) -> None:
    path = next((folder / name for folder in CLIPS if (folder / name).exists()), None)
    if path is None:
        pytest.skip(f"shared/data/media/{name} is absent")
    with open_video(path, LIMITS, Window(fps=2)) as video:
        assert (video.info.width, video.info.height) == size
        assert [frame.time_s for frame in video] == pytest.approx([k / 2 for k in range(half_seconds)], abs=0.05)
        assert not video.truncated
