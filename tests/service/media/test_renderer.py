"""The renderer process: every frame at its own time, with what was drawn on it, and the sound."""

import errno
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from typing import Any

import av
import numpy as np
import pytest

from model_core.faces.geometry import Frame
from service.errors import Limit, OutOfResources, StorageFull, UndecodableMedia, UnsupportedMediaType, VideoTooLong
from service.media.decoders import RendererPool
from service.media.encoding import MOST_PIXELS, most_like
from service.media.limits import DecodeLimits
from service.media.renderer import _telling_what_a_disk_lacks
from service.media.videos import Window
from tests.service.media_files import grey, noisy, numbered, video

LIMITS = DecodeLimits(1_000_000, 600, 10**9)
ALL = Window(fps=1e6)


@pytest.fixture(scope="module")
def renderers() -> Iterator[RendererPool]:
    with closing(RendererPool(1_000_000)) as pool:
        yield pool


@dataclass(frozen=True)
class Rendered:
    """A result as a player reads it."""

    data: bytes
    frames: list[Frame]
    times: list[float]
    sound: list[tuple[str, float]]
    """Codec and length in seconds of each stream of sound."""
    metadata: dict[str, str]


@dataclass(frozen=True)
class Renderer:
    pool: RendererPool
    folder: Path

    def __call__(
        self,
        path: Path,
        media_type: str = "video/mp4",
        draw: Callable[[Frame], None] = lambda frame: None,
        window: Window = ALL,
        max_upload: int = 10**9,
    ) -> Rendered:
        limit = Limit(name="AFFECT_JOB_MAX_UPLOAD_BYTES", value=max_upload)
        with path.open("rb") as file, TemporaryFile(dir=self.folder) as result:
            source = self.pool.rendering(file, result, limit, LIMITS, window, media_type)
            for timed in source.frames(Event()):
                if timed is not None:
                    draw(timed.frame)
            result.seek(0)
            return read(result.read(), self.folder / "read")


def read(data: bytes, path: Path) -> Rendered:
    path.write_bytes(data)
    with av.open(str(path)) as container:
        metadata = dict(container.metadata)
        for stream in container.streams:
            metadata |= stream.metadata
        sound = []
        for stream in container.streams.audio:
            heard = [frame for packet in container.demux(stream) for frame in packet.decode()]
            samples = sum(frame.samples for frame in heard)
            sound.append((stream.codec_context.codec.canonical_name, samples / stream.rate))
        container.seek(0)
        shown = list(container.decode(video=0))
        frames = [frame.to_ndarray(format="rgb24") for frame in shown]
        return Rendered(data, frames, [round(float(frame.time or 0), 4) for frame in shown], sound, metadata)


@pytest.fixture
def render(renderers: RendererPool, tmp_path: Path) -> Renderer:
    return Renderer(renderers, tmp_path)


def counted(frames: int) -> list[Frame]:
    """Frames whose grey levels are so far apart that coding does not confuse them; see `counts`."""
    return [grey(30 + 7 * number) for number in range(frames)]


def counts(result: Rendered) -> list[int]:
    return [round((float(frame.mean()) - 30) / 7) for frame in result.frames]


UNEVEN = [0.0, 0.04, 0.08, 0.2, 0.333, 0.5, 0.51, 1.0]


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm"])
def test_every_frame_is_there_at_its_own_time(tmp_path: Path, render: Renderer, media_type: str) -> None:
    path = video(tmp_path / "v.mkv", counted(len(UNEVEN)), "ffv1", times=UNEVEN)
    result = render(path, media_type)
    assert result.times == pytest.approx(UNEVEN, abs=0.001)
    assert counts(result) == list(range(len(UNEVEN)))


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm"])
def test_what_is_drawn_on_a_frame_is_in_the_result(tmp_path: Path, render: Renderer, media_type: str) -> None:
    path = video(tmp_path / "v.mp4", [grey(100)] * 12, fps=10)
    drawn = iter(range(12))

    def draw(frame: Frame) -> None:
        frame[:, :32] = 20 + 10 * next(drawn)  # which no other frame has

    result = render(path, media_type, draw)
    assert [float(frame[8:40, 4:28].mean()) for frame in result.frames] == pytest.approx(
        [20 + 10 * number for number in range(12)], abs=4
    )
    assert [float(frame[8:40, 36:60].mean()) for frame in result.frames] == pytest.approx([100] * 12, abs=4)


@pytest.mark.parametrize(
    ("source", "media_type", "codec"),
    [
        ({"suffix": ".mp4"}, "video/mp4", "aac"),  # copied
        ({"suffix": ".mp4"}, "video/webm", "opus"),
        ({"suffix": ".webm", "codec": "libvpx", "form": "webm", "sound_first": True}, "video/webm", "opus"),  # copied
        ({"suffix": ".webm", "codec": "libvpx", "form": "webm", "sound_first": True}, "video/mp4", "aac"),
    ],
)
def test_the_sound_is_kept(
    tmp_path: Path, render: Renderer, source: dict[str, Any], media_type: str, codec: str
) -> None:
    options = dict(source)
    path = video(tmp_path / f"v{options.pop('suffix')}", numbered(20), fps=10, sound_s=2, **options)
    [(kind, length_s)] = render(path, media_type).sound
    assert kind == codec
    assert length_s == pytest.approx(2, abs=0.1)


def with_sound(path: Path, codec: str, frames: list[tuple[float, av.AudioFrame]]) -> Path:
    """Two seconds of pictures, and frames of sound at their times in seconds, each encoded in its own form."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        [(_, first), *_] = frames
        sound = container.add_stream(codec, rate=first.sample_rate, layout=first.layout.name)
        for frame in numbered(20):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(pictures.encode(None))
        encoders: dict[tuple[str, int], av.AudioCodecContext] = {}
        for time_s, frame in frames:
            form = (frame.layout.name, frame.sample_rate)
            if form not in encoders:
                encoders[form] = av.AudioCodecContext.create(codec, "w")
                encoders[form].format, encoders[form].layout, encoders[form].sample_rate = frame.format, *form
            frame.pts = round(time_s * frame.sample_rate)
            for packet in encoders[form].encode(frame):
                packet.stream = sound
                container.mux(packet)
    return path


def tone(samples: int, layout: str, rate: int, form: str = "s16", value: float = 0) -> av.AudioFrame:
    channels = {"mono": 1, "stereo": 2}[layout]
    kind = np.int16 if form == "s16" else np.float32
    frame = av.AudioFrame.from_ndarray(np.full((1, samples * channels), value, kind), form, layout)
    frame.sample_rate = rate
    return frame


@pytest.mark.parametrize(("media_type", "codec"), [("video/mp4", "aac"), ("video/webm", "opus")])
def test_sound_that_changes_its_form_goes_on(tmp_path: Path, render: Renderer, media_type: str, codec: str) -> None:
    mono = [(1152 * number / 44_100, tone(1152, "mono", 44_100)) for number in range(38)]  # to 0.993 s
    stereo = [(1 + 1152 * number / 48_000, tone(1152, "stereo", 48_000)) for number in range(41)]  # to 1.984 s
    path = with_sound(tmp_path / "v.ts", "mp2", [*mono, *stereo])
    result = render(path, media_type)
    assert len(result.frames) == 20
    assert [(kind, round(length_s, 1)) for kind, length_s in result.sound] == [(codec, 2.0)]


@pytest.mark.parametrize(("media_type", "codec"), [("video/mp4", "aac"), ("video/webm", "opus")])
@pytest.mark.parametrize(
    "frames",
    [
        # Samples that are no numbers.
        [(0.1 * number, tone(4800, "mono", 48_000, "flt", np.nan if number == 5 else 0)) for number in range(20)],
        # Each begins before the one before it has ended.
        [(0.05 * number, tone(4800, "mono", 48_000, "flt")) for number in range(40)],
    ],
)
def test_damaged_sound_does_not_keep_a_video_from_being_made(
    tmp_path: Path, render: Renderer, media_type: str, codec: str, frames: list[tuple[float, av.AudioFrame]]
) -> None:
    result = render(with_sound(tmp_path / "v.mkv", "pcm_f32le", frames), media_type)
    assert len(result.frames) == 20
    assert [kind for kind, _ in result.sound] == [codec]


def test_a_video_without_sound_has_none(tmp_path: Path, render: Renderer) -> None:
    assert render(video(tmp_path / "v.mp4", numbered(3))).sound == []


def test_a_window_begins_at_zero_with_its_sound(tmp_path: Path, render: Renderer) -> None:
    path = video(tmp_path / "v.mkv", counted(30), "ffv1", fps=10, sound_s=3)
    result = render(path, window=Window(1e6, 1.0, 2.0))
    assert counts(result) == list(range(10, 20))
    assert result.times == pytest.approx([number / 10 for number in range(10)])
    [(_, length_s)] = result.sound
    assert length_s == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm"])
def test_the_sound_of_a_late_window_is_its_own(tmp_path: Path, render: Renderer, media_type: str) -> None:
    path = video(tmp_path / "v.mp4", numbered(60), fps=2, sound_s=30)
    result = render(path, media_type, window=Window(1e6, 25.0, 28.0))
    assert len(result.frames) == 6
    [(_, length_s)] = result.sound
    assert length_s == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm"])
def test_a_tiny_video_that_tells_a_slow_rate(tmp_path: Path, render: Renderer, media_type: str) -> None:
    path = video(tmp_path / "v.mkv", [grey(100, (1, 1))] * 2, "ffv1", times=[0.0, 500.0], pixel_format="bgr0")
    result = render(path, media_type)
    assert result.frames[0].shape == (2, 2, 3)
    assert result.times == [0.0, 500.0]


def test_an_index_comes_first_and_sizes_are_even(tmp_path: Path, render: Renderer) -> None:
    path = video(tmp_path / "v.mkv", numbered(5, (65, 49)), "ffv1", pixel_format="yuv444p")
    result = render(path)
    assert result.frames[0].shape == (50, 66, 3)
    assert 0 < result.data.find(b"moov") < result.data.find(b"mdat")


def test_an_upright_picture_of_square_pixels(tmp_path: Path, render: Renderer) -> None:
    def wide_pixels(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    result = render(video(tmp_path / "v.mp4", numbered(3), prepare=wide_pixels))
    assert result.frames[0].shape == (48, 128, 3)


def test_nothing_of_the_metadata_is_kept(tmp_path: Path, render: Renderer) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({"location": "+52.5200+013.4050/", "title": "a secret", "comment": "a secret"})
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in numbered(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert "a secret" in container.metadata.values()
    for media_type in ("video/mp4", "video/webm"):
        result = render(path, media_type)
        assert not {"location", "title", "comment"} & {name.lower() for name in result.metadata}
        assert b"a secret" not in result.data
        assert b"+52.5200" not in result.data


def test_a_result_beyond_its_limit_is_refused(tmp_path: Path, render: Renderer) -> None:
    path = video(tmp_path / "v.mp4", noisy(40, (320, 240)), "mpeg4")
    with pytest.raises(VideoTooLong) as caught:
        render(path, max_upload=12_500)
    assert "larger than 4 times the largest upload" in caught.value.detail
    assert caught.value.limit == {"name": "AFFECT_JOB_MAX_UPLOAD_BYTES", "value": 12_500}


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"hello, world" * 10, UnsupportedMediaType), (b"\0\0\0\x18ftypisom" + bytes(50), UndecodableMedia)],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, render: Renderer, content: bytes, error: type[Exception]
) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(error):
        render(path)


def test_a_large_frame_is_shrunk_in_proportion() -> None:
    assert most_like(np.zeros((10, 20, 3), np.uint8)) == (20, 10)
    assert most_like(np.zeros((10, 40, 3), np.uint8), pixels=100) == (20, 5)
    width, height = most_like(np.empty((4320, 7680, 3), np.uint8))
    assert width * height <= MOST_PIXELS
    assert width / height == pytest.approx(16 / 9, abs=0.001)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, VideoTooLong),
        (errno.EIO, UndecodableMedia),
    ],
)
def test_a_disk_that_takes_no_more_is_told(number: int, error: type[Exception]) -> None:
    with pytest.raises(error), _telling_what_a_disk_lacks(Limit(name="AFFECT_JOB_MAX_UPLOAD_BYTES", value=1)):
        raise av.FFmpegError(number, "a fault of the disk")


def test_a_renderer_that_dies_costs_one_answer(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4", numbered(30))
    lost: list[str] = []
    with closing(RendererPool(1_000_000, lost.append)) as pool:

        def kill(frame: Frame) -> None:
            [process] = pool._used
            process._process.kill()

        with pytest.raises(OutOfResources):
            Renderer(pool, tmp_path)(path, draw=kill)
        assert lost == ["memory"]  # what the system does where memory runs out looks like this
        assert len(Renderer(pool, tmp_path)(path).frames) == 30
