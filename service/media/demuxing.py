"""Opens untrusted video files with libav, which may use few formats, few codecs and no file but the one it is given."""

import logging
import math
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from threading import Event
from typing import Self, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import InvalidParameter, NoVideoFrames, UndecodableMedia, UnsupportedMediaType
from service.media.formats import LOOKED_AT, Kind, refusal
from service.media.limits import DecodeLimits

ROUNDING_S = 0.001
"""Containers round timestamps to milliseconds, so a frame that is this much early counts as on time."""

_LEAD_S = 0.1
"""Seconds by which decoding begins before the first frame asked for, since a deinterlacer looks at the one before."""

_TIMED = frozenset({"video", "audio", "subtitle"})
"""Types of streams that count for the length which a container announces."""

_TRUNCATION_S = 0.05
"""Seconds by which an intact file may end earlier than it announces, beside one and a half frames."""


_REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+)")
"""libav's message about a frame of no size, or of one beyond its limit."""

# What libav says of a file is looked at where it decodes, and concerns nobody else.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False


@dataclass(frozen=True)
class VideoFormat:
    """A container format of video files that the service reads."""

    name: str
    demuxer: str
    """libav's name of it."""
    start: re.Pattern[bytes]
    """Matches the beginning of its files."""


def _format(name: str, demuxer: str, start: bytes) -> VideoFormat:
    return VideoFormat(name, demuxer, re.compile(start, re.DOTALL))


FORMATS = (
    # Older QuickTime files begin with another atom than `ftyp`.
    _format("MP4", "mov", rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)"),
    _format("Matroska", "matroska", rb"\x1a\x45\xdf\xa3"),
    _format("AVI", "avi", rb"RIFF.{4}AVI "),
    _format("GIF", "gif", rb"GIF8[79]a"),
    # Packets of 188 bytes, or of 192 with a time code before each.
    _format("MPEG-TS", "mpegts", rb"(\x47.{187}|.{4}\x47.{191})\x47"),
    _format("MPEG-PS", "mpeg", rb"\x00\x00\x01\xba"),
    _format("WMV", "asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    _format("FLV", "flv", rb"FLV\x01"),
    _format("Ogg", "ogg", rb"OggS"),
)
"""The formats that libav may read. Playlists and scripts, which name other files, are not among them."""

CODECS = frozenset(
    # What cameras, phones, browsers and editors write ...
    "h264 hevc vp8 vp9 libdav1d mpeg4 mpeg1video mpeg2video mjpeg h263 flv vp6 vp6f theora wmv1 wmv2 wmv3 vc1 "
    "msmpeg4v1 msmpeg4v2 msmpeg4 prores dnxhd dvvideo cfhd gif "
    # ... and what laboratories write, without loss.
    "ffv1 huffyuv ffvhuff utvideo magicyuv rawvideo png qtrle".split()
)
"""The decoders that libav may use, by its names."""


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded frame and its place in the source."""

    picture: VideoFrame
    """As the decoder gave it: in its own pixel format, not turned."""
    time_s: float
    """The source's timestamp in seconds."""
    index: int
    """Index among all frames of the source, from 0."""


@dataclass(frozen=True)
class Keyframe:
    """A frame that is decoded without others, so that decoding can begin there."""

    packets_before: int
    """Packets of the picture stream before it, in the order of the file."""
    time_s: float
    """Its timestamp in seconds."""


class VideoFile:
    """A video file whose picture stream is read once, front to back, by one thread. Use it in a `with` block.

    Raises UnsupportedMediaType for a format or codec that the service does not read, UndecodableMedia for a file that
    is damaged from its beginning, and NoVideoFrames for one without a picture stream. A MemoryError passes.
    """

    def __init__(self, path: Path, limits: DecodeLimits) -> None:
        self.format = recognise_video(path)
        self._path = path
        self._limits = limits
        self._container = self._opened()
        with ExitStack() as stack:
            stack.callback(self.close)
            self._stream = _picture_stream(self.format, self._container)
            self._prepare_streams()
            stack.pop_all()
        self._tick_s = float(self._stream.time_base or 1)
        self._ends: dict[int, int] = {}
        self._last_corrupt: defaultdict[int, deque[bool]] = defaultdict(lambda: deque(maxlen=2))
        self._is_unreadable = False
        self._is_damaged = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder; may be called again."""
        self._container.close()

    def again(self) -> "VideoFile":
        """Open the file once more, at its beginning."""
        return VideoFile(self._path, self._limits)

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height of a frame in pixels as announced, before it is turned and made square."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height."""
        return self._stream.sample_aspect_ratio or Fraction(1)

    @property
    def fps(self) -> float | None:
        """Average frames a second, None if the container does not tell."""
        stream = self._stream
        if self.format.name == "GIF" and stream.duration:  # of which libav knows the first frames only
            return stream.frames / (stream.duration * self._tick_s)
        if not stream.average_rate:
            return None
        # Of H.264 in AVI libav counts fields; the lowest rate that fits all timestamps gives that away.
        return float(min(stream.average_rate, stream.base_rate or math.inf))

    @property
    def has_constant_rate(self) -> bool:
        """True if the container announces that all frames are equally long."""
        return self.fps is not None and self._stream.base_rate == self._stream.average_rate

    def duration_s(self, first_s: float) -> float | None:
        """Return the seconds from the first frame's timestamp to the end, as the container announces; None if unknown.

        Where the container tells only when all of it ends, longer sound counts.
        """
        if self._stream.duration is not None:
            return round(self._stream.duration * self._tick_s, 6)
        if self._container.duration is None:
            return None
        return round(max(0.0, self._container.duration / av.time_base - first_s), 6)

    @property
    def is_truncated(self) -> bool:
        """True if the file ends early: bytes are missing, or nothing after some damage could be decoded.

        Known after the last frame. Not every format tells: MPEG-TS and Ogg files may be cut anywhere, and so may a
        live recording in Matroska.
        """
        if self._is_unreadable or self._is_damaged or any(any(flags) for flags in self._last_corrupt.values()):
            return True
        if self.format.name == "GIF":
            return not _has_gif_trailer(self._path)
        if self.format.name == "WMV" and not self._container.duration:
            return True  # libav takes the length from the header if the size there is about that of the file
        if self.format.name == "AVI":  # whose length libav estimates by its sound
            announced_s = self._stream.frames * self._tick_s
        else:
            # Some formats announce the end and some the length, which ends earlier where the file begins before 0.
            begin = min(0, self._container.start_time or 0)
            announced_s = ((self._container.duration or 0) + begin) / av.time_base
        streams = self._container.streams
        ends_s = [float(end * (streams[index].time_base or 1)) for index, end in self._ends.items()]
        return max(ends_s, default=0.0) < announced_s - _TRUNCATION_S - 1.5 / (self.fps or 25)

    def frames(self, cancelled: Event, start: Keyframe | None = None) -> Iterator[DecodedFrame]:
        """Decode the file and yield the frames that a player shows; ends after the first once `cancelled` is set.

        Nothing before `start` is decoded. Damaged frames are left out, as players do, but the index counts them. Raises
        UndecodableMedia if the first frame is damaged, and TooManyPixels before one beyond the limit is decoded.
        """
        clock = _Clock(self.format, self._stream)
        is_first = True
        for number, packet in enumerate(self._packets()):
            if cancelled.is_set() and (start or not is_first):
                return
            if start and number < start.packets_before:
                clock.skip(packet)
                continue
            clock.expect(packet)
            for picture in self._decoded(packet, is_first and start is None):
                is_first = False
                self._is_damaged = False
                frame = clock.placed(picture)
                if start is None or frame.time_s >= start.time_s:  # earlier ones refer to frames before the keyframe
                    yield frame

    def keyframe_before(self, time_s: float, cancelled: Event) -> Keyframe | None:
        """Return the last keyframe sufficiently before a time; None if decoding must begin with the first frame.

        Decoding must begin there where the times of frames are counted from earlier ones, since timestamps run backward
        (see _Clock), and where a palette comes once for all frames. Reads the file up to the time without decoding it.
        Raises InvalidParameter if the file ends before it.
        """
        if _is_delayed(self.format, self._stream) or self._stream.codec_context.pix_fmt == "pal8":
            return None
        clock = _Clock(self.format, self._stream)
        found = None
        last_s = -math.inf
        for number, packet in enumerate(self._packets()):
            if cancelled.is_set() or (packet.dts is not None and packet.dts * self._tick_s > time_s):
                return found
            if clock.runs_backward(packet):
                return None
            shown_s = clock.time_s(packet)
            if shown_s is not None:
                last_s = max(last_s, shown_s)
                if packet.is_keyframe and shown_s <= time_s - _LEAD_S:
                    found = Keyframe(number, shown_s)
        if last_s < time_s - ROUNDING_S:
            raise InvalidParameter(f"start_s: the video's last frame is at {last_s:.3f} s")
        return found

    def _opened(self) -> InputContainer:
        try:
            return av.open(
                f"file:{self._path}",
                format=self.format.demuxer,
                options={
                    "protocol_whitelist": "file",
                    "codec_whitelist": ",".join(CODECS),
                    "max_pixels": self._max_coded_pixels,
                },
                metadata_errors="replace",
            )
        except MemoryError:  # which one of libav is, too
            raise
        except av.FFmpegError as error:
            raise UndecodableMedia(f"the {self.format.name} file is damaged or incomplete") from error

    @property
    def _max_coded_pixels(self) -> str:
        """libav's limit on a frame, which counts the padding that decoders need at its borders."""
        return str(self._limits.max_pixels * 5 // 4 + 200_000)

    def _prepare_streams(self) -> None:
        """Set the decoder up. Other pictures, sound and subtitles are only read for where they end, data not at all."""
        context = self._stream.codec_context
        if context is None or context.name not in CODECS:
            codec = context.codec.long_name if context else "something unknown"
            found = f"the {self.format.name} file's pictures are coded as {codec}, which is not read"
            raise UnsupportedMediaType(f"{found}; convert them to H.264")
        context.thread_count = 1  # a pool of decoders shares the cores already
        context.options = {"max_pixels": self._max_coded_pixels}
        for stream in self._container.streams:
            if stream.type not in _TIMED:
                stream.discard = Discard.all

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield the packets of the picture stream, and an empty one that makes the decoder give its last frames."""
        try:
            for packet in self._container.demux():
                if packet.size:
                    self._note_end(packet)
                    if packet.stream_index == self._stream.index:
                        yield cast("Packet[VideoStream]", packet)
        except MemoryError:  # which one of libav is, too
            raise
        except av.FFmpegError:
            self._is_unreadable = True
        except IndexError:
            pass  # PyAV fails at the end of a file in which streams appeared after its beginning
        end = cast("Packet[VideoStream]", Packet())
        end.stream = self._stream
        yield end

    def _note_end(self, packet: "Packet[Stream]") -> None:
        index = packet.stream_index
        timestamp = packet.dts if packet.pts is None else packet.pts
        if timestamp is not None:
            end = timestamp + (packet.duration or 0)
            self._ends[index] = max(self._ends.get(index, end), end)
        # libav marks the packet that the end of the file cut short, and its parsers may split that in two.
        self._last_corrupt[index].append(packet.is_corrupt)

    def _decoded(self, packet: "Packet[VideoStream]", is_first: bool) -> list[VideoFrame]:
        """Return the frames that a packet completes, none if it is damaged."""
        try:
            with av.logging.Capture() as said:
                return packet.decode()
        except MemoryError:  # which one of libav is, too
            raise
        except av.FFmpegError as error:
            # Without a width it has refused a size, or has not seen one yet. Its error does not tell which.
            if self._stream.codec_context.width == 0:
                for _, _, message in said:
                    if refused := _REFUSED_SIZE.match(message):
                        self._limits.check_pixels(int(refused[1]), int(refused[2]))
            if is_first and packet.is_keyframe:
                raise UndecodableMedia("the first frame of the video is damaged") from error
            self._is_damaged = True
            return []


class _Clock:
    """Gives the frames of one reading of a file their times and indices.

    Times are presentation timestamps. AVI has none: there players show a frame when they read the packet that makes the
    decoder give it out. The index of a frame is the number of packets with earlier timestamps, so it is the same
    wherever decoding began; a delayed AVI is decoded from its beginning, and its frames are counted. Where the two
    fields of a frame are in packets of their own, as in some H.264 broadcasts, both count.

    Where recordings were put one behind the other, timestamps may run backward. From there on a frame follows the one
    before it after as long as that one did, and frames are counted.
    """

    def __init__(self, form: VideoFormat, stream: VideoStream) -> None:
        self._is_avi = form.name == "AVI"
        self._counts_packets = not _is_delayed(form, stream)
        self._hides_frames = stream.codec_context.name == "vp8"
        self._tick_s = float(stream.time_base or 1)
        self._expected: list[int] = []
        self._passed = 0
        self._latest: int | None = None
        self._index = -1
        self._last: int | None = None
        self._step = 1

    def skip(self, packet: "Packet[VideoStream]") -> None:
        """Count a packet that is not decoded."""
        self._passed += self._is_shown(packet)

    def expect(self, packet: "Packet[VideoStream]") -> None:
        """Take note of a packet before it is decoded."""
        if self.runs_backward(packet):
            self._counts_packets = False
            self._expected.clear()
        timestamp = self._timestamp(packet)
        if timestamp is not None and self._counts_packets and self._is_shown(packet):
            heappush(self._expected, timestamp)

    def runs_backward(self, packet: "Packet[VideoStream]") -> bool:
        """Take note of the next packet's time; return whether it is a keyframe that is not later than all before it."""
        timestamp = self._timestamp(packet)
        if timestamp is None:
            return False
        latest = self._latest
        self._latest = timestamp if latest is None else max(latest, timestamp)
        return packet.is_keyframe and latest is not None and timestamp <= latest

    def placed(self, picture: VideoFrame) -> DecodedFrame:
        """Return a frame with its time and index, both larger than those of the frame before."""
        timestamp = self._timestamp(picture)
        if self._last is not None:
            if timestamp is None or timestamp <= self._last:
                timestamp = self._last + self._step
            self._step = timestamp - self._last
        self._last = timestamp or 0
        while self._expected and self._expected[0] < self._last:
            heappop(self._expected)
            self._passed += 1
        self._index = max(self._index + 1, self._passed)
        return DecodedFrame(picture, self._seconds(self._last), self._index)

    def time_s(self, packet: "Packet[VideoStream]") -> float | None:
        """Return when the frame of a packet is shown, None if that is not known."""
        timestamp = self._timestamp(packet)
        return None if timestamp is None else self._seconds(timestamp)

    def _seconds(self, timestamp: int) -> float:
        return round(timestamp * self._tick_s, 6)

    def _timestamp(self, timed: "Packet[VideoStream] | VideoFrame") -> int | None:
        return timed.dts if self._is_avi or timed.pts is None else timed.pts

    def _is_shown(self, packet: "Packet[VideoStream]") -> bool:
        """An edit list discards packets, and VP8 says in its fourth bit whether a frame is only referred to."""
        return not packet.is_discard and not (self._hides_frames and memoryview(packet)[0] & 0x10 == 0)


def recognise_video(path: Path) -> VideoFormat:
    """Return the format of a file. Raises UnsupportedMediaType for one that the service does not read."""
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
    for form in FORMATS:
        if form.start.match(head):
            return form
    raise UnsupportedMediaType(refusal(head, Kind.VIDEO))


def _picture_stream(form: VideoFormat, container: InputContainer) -> VideoStream:
    """Return the default stream of moving pictures, never a cover picture."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams and any(stream.type in _TIMED for stream in container.streams):
        found = "sound but no picture" if container.streams.audio else "no moving picture"
        raise NoVideoFrames(f"the {form.name} file has {found}")
    if not streams:  # an MP4 that is cut off before its index looks like this
        raise UndecodableMedia(f"the {form.name} file is damaged or incomplete")
    return max(streams, key=lambda stream: (stream.frames != 1, bool(stream.disposition & Disposition.default)))


def _has_gif_trailer(path: Path) -> bool:
    """Return whether a GIF file ends as it should, but for a little padding."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read().rstrip(b"\0\r\n\t ").endswith(b";")


def _is_delayed(form: VideoFormat, stream: VideoStream) -> bool:
    """True if frames are not shown in the order of their packets, and the format does not tell in which."""
    return form.name == "AVI" and stream.codec_context.has_b_frames
