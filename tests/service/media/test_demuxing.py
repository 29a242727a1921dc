"""Files are read on their own clock and to their true end, by few formats and codecs of libav."""

import json
import os
import struct
import subprocess
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from service.errors import (
    InvalidParameter,
    NoVideoFrames,
    ServiceError,
    TooManyPixels,
    UndecodableMedia,
    UnsupportedMediaType,
)
from service.media.limits import DecodeLimits
from service.media.videos import MediaInfo, TimedFrame, Window, open_video
from tests.service.media_files import damaged, grey, joined, noisy, number_shown, numbered, remuxed, video

LIMITS = DecodeLimits(max_pixels=1_000_000, max_video_s=700, max_frames=100_000)
FAST = {"preset": "ultrafast"}


def read(path: Path, *, fps: float = 1000, start_s: float = 0, end_s: float | None = None) -> list[TimedFrame]:
    with open_video(path, LIMITS, Window(fps, start_s, end_s)) as opened:
        return list(opened)


def info(path: Path) -> MediaInfo:
    with open_video(path, LIMITS, Window()) as opened:
        return opened.info


def is_truncated(path: Path) -> bool:
    with open_video(path, LIMITS, Window(fps=1000)) as opened:
        for _ in opened:
            pass
        return opened.truncated


def places(frames: list[TimedFrame]) -> list[tuple[int, float, int]]:
    """Index, time and shown number of frames."""
    return [(frame.index, round(frame.time_s, 3), number_shown(frame.frame)) for frame in frames]


CONTAINERS: dict[str, dict[str, object]] = {
    "h264.mp4": {"codec": "libx264", "options": {"preset": "veryfast"}},
    "fragmented.mp4": {"codec": "libx264", "options": FAST, "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mov": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "h264.mkv": {"codec": "libx264", "options": {"preset": "veryfast"}},
    "ffv1.mkv": {"codec": "ffv1"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.avi": {"codec": "libx264", "options": {"preset": "ultrafast", "bf": "0"}},
    "delayed.avi": {"codec": "libx264", "options": {"preset": "veryfast"}},
    "h264.ts": {"codec": "libx264", "options": {"preset": "veryfast"}},
    "h264.m2ts": {"codec": "libx264", "options": FAST, "form": "mpegts", "muxing": {"mpegts_m2ts_mode": "1"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "wmv2.wmv": {"codec": "wmv2"},
    "flv.flv": {"codec": "flv"},
    "h263.3gp": {"codec": "h263"},
    "vp8.ogg": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
}
SIZES = {"h263.3gp": (176, 144)}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds of numbered frames in each container."""
    folder = tmp_path_factory.mktemp("containers")
    return {
        name: video(folder / name, numbered(50, SIZES.get(name, (64, 48))), **options)
        for name, options in CONTAINERS.items()
    }


def test_no_encoder_leaves_the_process_real_time(files: dict[str, Path]) -> None:
    assert (files["av1.mkv"].stat().st_size > 0, os.sched_getscheduler(0)) == (True, os.SCHED_OTHER)


@pytest.mark.parametrize("name", CONTAINERS)
def test_all_frames_of_every_format_are_read(files: dict[str, Path], name: str) -> None:
    frames = read(files[name])
    assert [frame.index for frame in frames] == list(range(50))
    assert [number_shown(frame.frame) for frame in frames] == pytest.approx(range(50), abs=1)
    first_s = frames[0].time_s
    assert [frame.time_s - first_s for frame in frames] == pytest.approx([n / 25 for n in range(50)], abs=0.0011)
    assert not is_truncated(files[name])
    told = info(files[name])
    assert told.fps == (None if name == "vp8.ogg" else pytest.approx(25))  # Ogg does not tell
    assert told.start_s == first_s
    # An MPEG-PS has no index, and a timestamp only here and there.
    assert told.duration_s == pytest.approx(2, abs=1 if name == "mpeg2.mpg" else 0.05)


@pytest.mark.system("ffprobe")
@pytest.mark.parametrize("name", CONTAINERS)
def test_timestamps_are_those_of_ffprobe(files: dict[str, Path], name: str) -> None:
    show = "-v error -select_streams v -show_entries frame=best_effort_timestamp_time -of json".split()
    told = json.loads(subprocess.run(["ffprobe", *show, files[name]], capture_output=True, check=True).stdout)
    key = "best_effort_timestamp_time"  # which the last frames of an MPEG-PS and of a delayed AVI lack
    expected = [float(frame[key]) for frame in told["frames"] if key in frame]
    assert [frame.time_s for frame in read(files[name])[: len(expected)]] == pytest.approx(expected, abs=0.001)
    assert len(expected) >= 48


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("after_s", [0.04, 0.5, 1.3, 1.96])
def test_a_window_gives_the_frames_of_a_whole_reading(files: dict[str, Path], name: str, after_s: float) -> None:
    whole = read(files[name])
    start_s = whole[0].time_s + after_s
    expected = [frame for frame in whole if frame.time_s >= start_s - 0.001]
    found = read(files[name], start_s=start_s)
    assert [(frame.index, frame.time_s) for frame in found] == [(frame.index, frame.time_s) for frame in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.frame, other.frame)


def test_a_window_has_the_colours_of_a_palette_that_comes_once(tmp_path: Path) -> None:
    inverted = np.arange(255, -1, -1)
    palette = np.stack([np.full(256, 255), inverted, inverted, inverted], axis=1).astype(np.uint8)  # opaque
    pictures = [(np.full((48, 64), level, np.uint8), palette) for level in range(0, 250, 5)]
    frames = [av.VideoFrame.from_ndarray(indices, "pal8") for indices in pictures]
    path = video(tmp_path / "clip.avi", frames, "rawvideo", pixel_format="pal8")
    assert [frame.frame[0, 0, 0] for frame in read(path)] == list(range(255, 5, -5))
    assert [frame.frame[0, 0, 0] for frame in read(path, start_s=1.6)] == list(range(55, 5, -5))


class TestClock:
    """Timestamps keep their origin, on the clock of the file's other streams."""

    def test_a_matroska_file_that_begins_at_five_seconds(self, files: dict[str, Path], tmp_path: Path) -> None:
        path = remuxed(files["ffv1.mkv"], tmp_path / "late.mkv", shift_s=5)
        told = info(path)
        assert (told.start_s, told.duration_s) == (5.0, 2.0)
        assert places(read(path))[:2] == [(0, 5.0, 0), (1, 5.04, 1)]
        assert places(read(path, start_s=6, end_s=6.1)) == [(25, 6.0, 25), (26, 6.04, 26), (27, 6.08, 27)]
        assert not is_truncated(path)
        with pytest.raises(InvalidParameter, match=r"end_s: the video's first frame is at 5.000 s"):
            read(path, end_s=5)

    @pytest.mark.parametrize("form", ["mp4", "matroska"])
    def test_pictures_that_begin_after_the_sound(self, tmp_path: Path, form: str) -> None:
        path = video(
            tmp_path / "late",
            numbered(25),
            times=[0.5 + n / 25 for n in range(25)],
            form=form,
            sound_s=2,
            sound_first=True,
        )
        told = info(path)
        assert told.start_s == pytest.approx(0.5, abs=0.03)  # Matroska is shifted by the sound's priming
        assert read(path, start_s=1.0)[0].time_s == pytest.approx(1.02, abs=0.03)
        assert not is_truncated(path)

    def test_frames_before_an_edit_list_are_not_shown(self, tmp_path: Path) -> None:
        whole = video(tmp_path / "whole.mp4", numbered(50), "libx264", options=FAST | {"g": "25"})
        path = remuxed(whole, tmp_path / "cut.mp4", begin_s=1.3)
        with av.open(str(path)) as container:
            assert sum(packet.is_discard for packet in container.demux(video=0)) == 8  # 1.00 to 1.28 s
        found = places(read(path))
        assert found[0] == (0, 0.0, 33)
        assert found[-1] == (16, 0.64, 49)
        assert places(read(path, start_s=0.3)) == found[8:]
        assert not is_truncated(path)

    def test_a_recording_without_rate_and_length(self, tmp_path: Path) -> None:
        # As browsers write it: an irregular clock in milliseconds, and nothing announced.
        jitter = np.random.default_rng(0).integers(28, 39, 60)
        times = (np.cumsum(jitter) - jitter[0]) / 1000
        path = video(
            tmp_path / "recorded.webm", numbered(60), "libvpx", times=list(times), tick=Fraction(1, 1000),
            muxing={"live": "1"}, form="webm", options={"deadline": "realtime"},
        )  # fmt: skip
        data = path.read_bytes()
        default_duration = data.index(b"\x23\xe3\x83")
        path.write_bytes(data[:default_duration] + b"\xec\x85" + data[default_duration + 2 :])  # becomes padding
        assert info(path) == MediaInfo(64, 48, None, 0.0, None)
        assert [frame.time_s for frame in read(path)] == pytest.approx(list(times), abs=0.001)
        assert not is_truncated(path)

    def test_recordings_one_behind_the_other(self, tmp_path: Path) -> None:
        """Timestamps start anew with the second one, while the decoder still holds frames of the first."""
        one = video(tmp_path / "one.ts", numbered(25), "libx264", options={"preset": "veryfast"})
        path = tmp_path / "two.ts"
        path.write_bytes(2 * one.read_bytes())
        whole = read(path)
        begin_s = whole[0].time_s
        assert [frame.index for frame in whole] == list(range(50))
        assert [frame.time_s - begin_s for frame in whole] == pytest.approx([n / 25 for n in range(50)], abs=0.001)
        assert [number_shown(frame.frame) for frame in whole] == pytest.approx(2 * list(range(25)), abs=1)
        for number in (10, 24, 25, 40):
            assert places(read(path, start_s=whole[number].time_s)) == places(whole)[number:]


class TestStreams:
    """The default stream of moving pictures is read."""

    def test_a_cover_picture_is_not_the_video(self, tmp_path: Path) -> None:
        film = video(tmp_path / "film.mp4", numbered(5))
        path = tmp_path / "covered.mp4"
        with av.open(str(film)) as reading, av.open(str(path), "w") as writing:
            cover = writing.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            stream = writing.add_stream_from_template(reading.streams.video[0])
            writing.mux(cover.encode(av.VideoFrame.from_ndarray(grey(200, (640, 480)), "rgb24")))
            for packet in reading.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    writing.mux(packet)
        told = info(path)
        assert (told.width, told.height) == (64, 48)
        assert len(read(path)) == 5

    def test_of_two_the_default_one_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "two.mkv"
        with av.open(str(path), "w") as writing:
            streams = [writing.add_stream("mpeg4", rate=25) for _ in range(2)]
            for stream, width, flag in zip(streams, (64, 128), (0, av.stream.Disposition.default), strict=True):
                stream.width, stream.height, stream.pix_fmt, stream.disposition = width, 48, "yuv420p", flag
            for stream in streams:
                for frame in numbered(5, (stream.width, 48)):
                    writing.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
                writing.mux(stream.encode())
        assert info(path).width == 128

    def test_a_song_with_a_cover_is_no_video(self, tmp_path: Path) -> None:
        path = tmp_path / "song.mp4"
        with av.open(str(path), "w") as writing:
            sound = writing.add_stream("aac", rate=48_000, layout="mono")
            cover = writing.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            writing.mux(cover.encode(av.VideoFrame.from_ndarray(grey(200), "rgb24")))
            for number in range(10):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48_000, 1024 * number
                writing.mux(sound.encode(frame))
            writing.mux(sound.encode(None))
        with pytest.raises(NoVideoFrames, match="the MP4 file has sound but no picture"):
            read(path)

    def test_subtitles_alone_are_no_video(self, tmp_path: Path) -> None:
        subtitle = tmp_path / "clip.srt"
        subtitle.write_text("1\n00:00:00,500 --> 00:00:09,000\nhello\n")
        path = joined([subtitle], tmp_path / "clip.mkv", "matroska")
        with pytest.raises(NoVideoFrames, match="the Matroska file has no moving picture"):
            read(path)


class TestEnd:
    """Only a file that ends early is truncated."""

    @pytest.mark.parametrize("name", ["h264.mp4", "ffv1.mkv", "mjpeg.avi", "mpeg4.avi", "h264.ts", "flv.flv"])
    def test_a_newline_behind_the_end(self, files: dict[str, Path], tmp_path: Path, name: str) -> None:
        path = tmp_path / "longer"
        path.write_bytes(files[name].read_bytes() + b"\n")
        assert not is_truncated(path)

    @pytest.mark.parametrize("form", ["mp4", "matroska", "avi", "flv", "mpegts", "asf"])
    def test_sound_that_is_longer_than_the_pictures(self, tmp_path: Path, form: str) -> None:
        codec = {"avi": "mpeg4", "flv": "flv", "asf": "wmv2"}.get(form, "libx264")
        path = video(tmp_path / "longer", numbered(25), codec, form=form, sound_s=3)
        assert len(read(path)) == 25
        assert not is_truncated(path)

    @pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts"])
    def test_other_pictures_that_are_longer(self, tmp_path: Path, form: str) -> None:
        codec = "mpeg2video" if form == "mpegts" else "mpeg4"
        first = video(tmp_path / "first.mkv", numbered(25), codec)
        second = video(tmp_path / "second.mkv", numbered(75), codec)
        path = joined([first, second], tmp_path / "longer", form)
        assert len(read(path)) == 25
        assert not is_truncated(path)

    def test_a_subtitle_that_is_longer_than_the_pictures(self, files: dict[str, Path], tmp_path: Path) -> None:
        subtitle = tmp_path / "clip.srt"
        subtitle.write_text("1\n00:00:00,500 --> 00:00:09,000\nhello\n")
        path = joined([files["h264.mp4"], subtitle], tmp_path / "clip.mkv", "matroska")
        assert info(path).duration_s == 9  # Matroska tells only when all of it ends
        assert not is_truncated(path)

    def test_a_recording_during_which_the_clock_of_mpeg_ts_starts_anew(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        """Its 33 bits count 90,000 a second, so that the time after is above 0 and that before below."""
        path = remuxed(files["h264.ts"], tmp_path / "clip.ts", shift_s=2**33 / 90_000 - 1)
        frames = read(path)
        assert len(frames) == 50
        assert frames[0].time_s < 0 < frames[-1].time_s
        assert not is_truncated(path)

    @pytest.mark.parametrize("share", [0.5, 0.9])
    @pytest.mark.parametrize(
        ("name", "muxing"),
        [
            ("h264.mp4", {"movflags": "faststart"}),
            ("h264.mkv", {}),
            ("mjpeg.avi", {}),
            ("flv.flv", {}),
            ("wmv2.wmv", {}),
        ],
    )
    def test_a_cut_file(self, tmp_path: Path, name: str, muxing: dict[str, str], share: float) -> None:
        whole = video(tmp_path / name, noisy(50), muxing=muxing, **CONTAINERS[name])
        path = tmp_path / "cut"
        path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        assert 0 < len(read(path)) < 50
        assert is_truncated(path)

    def test_a_cut_fragment(self, tmp_path: Path) -> None:
        muxing = {"movflags": "empty_moov", "frag_duration": "400000"}
        path = video(tmp_path / "cut.mp4", noisy(50), muxing=muxing)
        data = path.read_bytes()
        path.write_bytes(data[: data.rindex(b"mdat") + 5000])  # cuts the last of five
        assert 40 < len(read(path)) < 50
        assert is_truncated(path)


class TestDamage:
    """Reading goes on after damage, as players do."""

    def test_damaged_packets_in_the_middle_are_left_out(self, tmp_path: Path) -> None:
        path = damaged(video(tmp_path / "clip.avi", numbered(50), "mjpeg", pixel_format="yuvj420p"), 20, 21)
        frames = places(read(path))
        assert [index for index, _, _ in frames] == [*range(20), *range(22, 50)]
        assert [shown for _, _, shown in frames] == pytest.approx([*range(20), *range(22, 50)], abs=1)
        assert not is_truncated(path)
        assert places(read(path, start_s=1)) == frames[23:]
        assert places(read(path, start_s=0.92)) == frames[21:]  # whose decoding would begin with frame 20

    def test_damage_to_the_end_is_a_truncation(self, tmp_path: Path) -> None:
        path = damaged(video(tmp_path / "clip.avi", numbered(50), "mjpeg", pixel_format="yuvj420p"), *range(30, 50))
        assert [frame.index for frame in read(path)] == list(range(30))
        assert is_truncated(path)

    def test_a_damaged_first_frame_is_an_error(self, tmp_path: Path) -> None:
        path = damaged(video(tmp_path / "clip.avi", numbered(5), "mjpeg", pixel_format="yuvj420p"), 0)
        with pytest.raises(UndecodableMedia, match="first frame"):
            read(path)

    def test_libav_writes_nothing_to_the_log(
        self, files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "damaged"
        for whole in files.values():
            data = bytearray(whole.read_bytes())
            data[len(data) // 2 :: 7] = bytes(len(data[len(data) // 2 :: 7]))
            path.write_bytes(data)
            with suppress(ServiceError):
                is_truncated(path)
        assert capfd.readouterr() == ("", "")


class TestHostileFiles:
    """No file makes libav open another one, use an odd codec, or decode more than the limits allow."""

    @pytest.mark.parametrize(
        "script",
        ["#EXTM3U\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{path}'\n", "concat:{path}"],
    )
    def test_playlists_are_refused(self, files: dict[str, Path], tmp_path: Path, script: str) -> None:
        path = tmp_path / "list.mp4"
        path.write_text(script.format(path=files["h264.ts"]))
        with pytest.raises(
            UnsupportedMediaType,
            match=r"^found (an HLS playlist|text); send (the video itself|an MP4, .* or Ogg video)",
        ):
            read(path)

    def test_codecs_that_are_not_listed_are_refused(self, tmp_path: Path) -> None:
        path = video(tmp_path / "clip.mkv", numbered(3), "snow", options={"strict": "-2"})
        said = "^the Matroska file's pictures are coded as Snow, which is not read; convert them to H.264$"
        with pytest.raises(UnsupportedMediaType, match=said):
            read(path)

    def test_codecs_that_nobody_knows_are_refused(self, files: dict[str, Path], tmp_path: Path) -> None:
        path = tmp_path / "clip.avi"
        path.write_bytes(files["mpeg4.avi"].read_bytes().replace(b"FMP4", b"QQQQ"))
        with pytest.raises(UnsupportedMediaType, match="the AVI file's pictures are coded as something unknown, "):
            read(path)

    @pytest.mark.parametrize(
        ("size", "error", "said"),
        [
            ((16_383, 16_383), TooManyPixels, "16383 x 16383"),
            ((2000, 1000), TooManyPixels, "2000 x 1000"),
            ((0, 0), UndecodableMedia, "damaged"),
        ],
    )
    def test_a_size_that_libav_refuses_is_too_large_or_damaged(
        self, tmp_path: Path, size: tuple[int, int], error: type[ServiceError], said: str
    ) -> None:
        path = video(tmp_path / "vp8.webm", numbered(3), "libvpx", options={"deadline": "realtime", "g": "1"})
        start = b"\x9d\x01\x2a"  # of a keyframe, whose size follows
        whole = path.read_bytes()
        assert start + struct.pack("<HH", 64, 48) in whole
        path.write_bytes(whole.replace(start + struct.pack("<HH", 64, 48), start + struct.pack("<HH", *size)))
        for _ in range(2):  # libav leaves out what it has just said
            with pytest.raises(error, match=said):
                read(path)

    def test_frames_that_come_before_their_size_is_told_are_no_large_ones(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        whole = files["h264.ts"].read_bytes()
        begin = whole.index(b"\x00\x00\x00\x01\x67") // 188 * 188 + 188  # behind the packet with the size
        assert b"\x00\x00\x00\x01\x67" not in whole[begin:]
        path = tmp_path / "tail.ts"
        path.write_bytes(whole[begin:])
        with pytest.raises((NoVideoFrames, UndecodableMedia)):
            read(path)

    def test_frames_that_grow_are_refused_before_they_are_decoded(self, tmp_path: Path) -> None:
        small, large = tmp_path / "small.avi", tmp_path / "large.avi"
        video(small, numbered(10), "mjpeg", pixel_format="yuvj420p")
        video(large, [grey(9, (2000, 1000))], "mjpeg", pixel_format="yuvj420p")
        with av.open(str(large)) as container:
            huge = next(bytes(packet) for packet in container.demux(video=0) if packet.size)
        path = tmp_path / "grows.avi"
        with av.open(str(small)) as reading, av.open(str(path), "w") as writing:
            stream = writing.add_stream_from_template(reading.streams.video[0])
            for number, packet in enumerate(reading.demux(video=0)):
                if packet.dts is not None:
                    copy = av.Packet(huge if number == 5 else bytes(packet))
                    copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
                    copy.is_keyframe = True
                    writing.mux(copy)
        with open_video(path, LIMITS, Window(fps=1000)) as opened:
            frames = iter(opened)
            assert [next(frames).index for _ in range(5)] == list(range(5))
            with pytest.raises(TooManyPixels) as caught:
                next(frames)
        assert caught.value.limit == {"name": "AFFECT_MAX_PIXELS", "value": 1_000_000}
