"""Media files that tests make."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from model_core.faces.geometry import Frame


def png(level: int, width: int = 64, height: int = 48) -> bytes:
    """A picture of one grey level."""
    return encoded(np.full((height, width, 3), level, np.uint8), ".png")


def encoded(frame: np.ndarray, suffix: str) -> bytes:
    """An RGB frame as a file of the suffix's format."""
    return cv2.imencode(suffix, frame[..., ::-1])[1].tobytes()


def pillow(image: Image.Image, form: str, **options: object) -> bytes:
    """A Pillow image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mp4(path: Path, levels: list[int], fps: int = 10, size: tuple[int, int] = (96, 64)) -> bytes:
    """A video with one grey level a frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()
    return path.read_bytes()


def grey(level: float, size: tuple[int, int] = (64, 48)) -> Frame:
    """A frame of one grey level."""
    return np.full((size[1], size[0], 3), level, np.uint8)


def numbered(frames: int, size: tuple[int, int] = (64, 48)) -> list[Frame]:
    """Frames whose grey level tells their number modulo 50; see `number_shown`."""
    return [grey(20 + 4 * (number % 50), size) for number in range(frames)]


def number_shown(frame: Frame) -> int:
    """The number of a frame that was made by `numbered`, modulo 50."""
    return round((float(frame.mean()) - 20) / 4)


def noisy(frames: int, size: tuple[int, int] = (64, 48)) -> list[Frame]:
    """Frames of noise, each as hard to compress as the others."""
    return list(np.random.default_rng(0).integers(0, 256, (frames, size[1], size[0], 3), np.uint8))


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Give this thread its scheduling policy back at the end.

    SVT-AV1 makes the thread that opens it a real-time one where it may, which root may. All that the thread starts
    afterwards is real-time, too, and every other process of the machine starves beside it.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def video(
    path: Path,
    frames: Iterable[Frame | av.VideoFrame],
    codec: str = "mpeg4",
    *,
    fps: float = 25,
    times: Sequence[float] | None = None,
    tick: Fraction = Fraction(1, 1000),
    pixel_format: str = "yuv420p",
    form: str | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    prepare: Callable[[VideoStream], None] = lambda stream: None,
    sound_s: float = 0,
    sound_first: bool = False,
) -> Path:
    """Write RGB frames, or libav's own, at a rate or at given times; `sound_s` seconds of silence go with them."""
    with usual_scheduling(), av.open(str(path), "w", format=form, options=muxing or {}) as container:
        silence = [container.add_stream("aac" if form != "webm" else "libopus", rate=48_000)] if sound_first else []
        stream: VideoStream | None = None
        for number, picture in zip(count() if times is None else times, frames, strict=False):
            frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture, "rgb24")
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixel_format
                if times is not None:
                    stream.codec_context.time_base = tick
                prepare(stream)
                if sound_s and not silence:
                    silence = [container.add_stream("aac", rate=48_000)]
            unit = stream.codec_context.time_base or 1 / Fraction(fps).limit_denominator(1001)
            frame.time_base = unit
            frame.pts = number if times is None else round(number / unit)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode())
        if silence:
            write_silence(container, silence[0], sound_s)
    return path


def write_silence(container: OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Encode silence into a sound stream at 48 kHz."""
    for number in range(round(seconds * 48_000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        frame.pts = 1024 * number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def remuxed(
    source: Path,
    path: Path,
    *,
    form: str | None = None,
    muxing: dict[str, str] | None = None,
    begin_s: float = 0,
    shift_s: float = 0,
    prepare: Callable[[VideoStream], None] = lambda stream: None,
) -> Path:
    """Copy a file's packets into another container, as `ffmpeg -ss begin -i source -c copy` does; `shift_s` later."""
    with av.open(str(source)) as reading, av.open(str(path), "w", format=form, options=muxing or {}) as writing:
        streams = {stream.index: writing.add_stream_from_template(stream) for stream in reading.streams}
        prepare(writing.streams.video[0])
        if begin_s:
            reading.seek(round(begin_s * av.time_base))
        for packet in reading.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                by = round((shift_s - begin_s) / packet.time_base)
                packet.pts += by
                packet.dts += by
                writing.mux(packet)
    return path


def joined(sources: Sequence[Path], path: Path, form: str) -> Path:
    """Copy the streams of several files into one container."""
    with ExitStack() as stack:
        writing = stack.enter_context(av.open(str(path), "w", format=form))
        readings = [stack.enter_context(av.open(str(source))) for source in sources]
        streams = [writing.add_stream_from_template(reading.streams[0]) for reading in readings]
        for reading, stream in zip(readings, streams, strict=True):
            for packet in reading.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    writing.mux(packet)
    return path


def damaged(path: Path, *numbers: int) -> Path:
    """Overwrite packets of a file's pictures with zeros."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number in numbers:
        data = data.replace(packets[number], bytes(len(packets[number])))
    path.write_bytes(data)
    return path


def audio_only_mp4(path: Path) -> bytes:
    """Half a second of silence in an mp4 container."""
    with av.open(str(path), "w") as container:
        write_silence(container, container.add_stream("aac", rate=48_000, layout="mono"), 0.5)
    return path.read_bytes()
