"""The sound of an untrusted video file, taken over into another one: copied where that goes, else encoded anew."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition

from service.media.demuxing import CODECS, recognise_video

SOUND_CODECS = frozenset(
    # What cameras, phones, browsers and editors write ...
    "aac mp3float mp3 mp2float mp2 opus libopus vorbis flac alac ac3 eac3 amrnb amrwb wmav1 wmav2 adpcm_ms "
    # ... and sound as it is.
    "adpcm_ima_wav pcm_u8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_f32le pcm_alaw pcm_mulaw".split()
)
"""The decoders of sound that libav may use, by its names; sound in another coding is left out."""

_LEAD_S = 1.0
"""Seconds before the beginning from which on sound is decoded, since a decoder needs the packets before."""

_RATE = 48_000
"""Samples a second of sound that is encoded anew: those of Opus, which AAC takes, too."""


class Sound:
    """The default sound of a file, read once, front to back; damage in it ends the sound and nothing else.

    Calls come in this order: `begin`, `write_until` with growing times, `finish`; `close` at any time.
    """

    def __init__(self, path: Path) -> None:
        """Raises UnsupportedMediaType, and av.FFmpegError where the file cannot be opened."""
        self._container = _opened(path)
        self._source = _default_stream(self._container)
        self._pending: Packet[AudioStream] | AudioFrame | None = None
        self._last: int | None = None
        self._written: int | None = None
        """Timestamp of the last packet that was written, in the unit of all of them."""
        self._form: tuple[str, str, int] | None = None
        """Format, layout and rate of the last frame that was decoded."""

    @property
    def is_there(self) -> bool:
        """False for a file without sound that can be read."""
        return self._source is not None

    def begin(self, into: OutputContainer, codec: str, copied: Collection[str], origin_s: float) -> None:
        """Add a stream to a file. `origin_s`: the time on the source's clock at which the file begins."""
        assert self._source is not None
        self._origin_s = origin_s
        self._copies = self._source.codec_context.codec.canonical_name in copied
        if self._copies:
            self._stream = into.add_stream_from_template(self._source)
        else:
            self._layout = "mono" if self._source.channels == 1 else "stereo"
            self._stream = cast("AudioStream", into.add_stream(codec, rate=_RATE, layout=self._layout))
        self._seek()
        self._pieces = self._read()

    def write_until(self, time_s: float, into: OutputContainer) -> None:
        """Write what is heard before a time on the source's clock."""
        while True:
            piece = self._pending or next(self._pieces, None)
            self._pending = piece
            if piece is None or _time_s(piece) >= time_s:
                return
            self._pending = None
            self._write(piece, into)

    def finish(self, into: OutputContainer) -> None:
        """Write what the encoder still holds."""
        if not self._copies and self._last is not None:
            self._encode(None, into)

    def close(self) -> None:
        """Release the file; may be called again."""
        self._container.close()

    def _seek(self) -> None:
        """Go near the beginning, if there is much before it; where that does not work all of it is read."""
        assert self._source is not None
        unit = self._source.time_base or Fraction(1)
        if self._origin_s - float((self._source.start_time or 0) * unit) > _LEAD_S:
            with _ending_at_damage():
                self._container.seek(round((self._origin_s - _LEAD_S) / unit), stream=self._source)

    def _read(self) -> "Iterator[Packet[AudioStream] | AudioFrame]":
        """Yield packets that are to be copied, or frames; damaged ones are left out."""
        with _ending_at_damage():
            for packet in self._container.demux(self._source):
                piece = cast("Packet[AudioStream]", packet)
                if piece.pts is not None and _time_s(piece) < self._origin_s - _LEAD_S:
                    continue  # it need not even be decoded
                if not self._copies:
                    with _ending_at_damage():
                        for frame in cast("list[AudioFrame]", packet.decode()):
                            yield from self._resampled(frame)
                elif packet.size and not packet.is_corrupt:
                    yield piece

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        """Return a frame in the one form that the encoder takes; broadcasts change the form of their sound."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._form = form
            self._resampler = AudioResampler("fltp", self._layout, _RATE)
        return self._resampler.resample(frame)

    def _write(self, piece: "Packet[AudioStream] | AudioFrame", into: OutputContainer) -> None:
        if piece.pts is None or piece.time_base is None:
            return
        start = piece.pts - round(self._origin_s / piece.time_base)
        # Timestamps that run backward, as where recordings were put one behind the other, cannot be written.
        if start < 0 or (self._last is not None and start <= self._last):
            return
        self._last = start
        if isinstance(piece, AudioFrame):
            piece.pts = start
            self._encode(piece, into)
            return
        piece.pts = piece.dts = start
        piece.stream = self._stream
        self._mux(piece, into)

    def _encode(self, frame: AudioFrame | None, into: OutputContainer) -> None:
        packets: list[Packet[AudioStream]] = []
        with _ending_at_damage():  # samples may be no numbers
            packets = self._stream.encode(frame)
        for packet in packets:
            self._mux(packet, into)

    def _mux(self, packet: "Packet[AudioStream]", into: OutputContainer) -> None:
        """Write a packet, unless it is damaged, or begins before the one before it, as where frames overlap."""
        if packet.dts is None or (self._written is not None and packet.dts <= self._written):
            return
        self._written = packet.dts
        with suppress(av.error.InvalidDataError):
            into.mux(packet)


@contextmanager
def _ending_at_damage() -> Iterator[None]:
    """End the block where libav cannot read on. In some damaged files PyAV itself fails, with an IndexError."""
    try:
        yield
    except MemoryError:  # which one of libav is, too
        raise
    except (av.FFmpegError, IndexError):
        pass


def _time_s(piece: "Packet[AudioStream] | AudioFrame") -> float:
    """Return when a piece begins; what has no timestamp is heard at once, and then left out."""
    return float("-inf") if piece.pts is None else float(piece.pts * (piece.time_base or Fraction(1)))


def _opened(path: Path) -> InputContainer:
    options = {"protocol_whitelist": "file", "codec_whitelist": ",".join(CODECS | SOUND_CODECS)}
    return av.open(f"file:{path}", format=recognise_video(path).demuxer, options=options, metadata_errors="replace")


def _default_stream(container: InputContainer) -> AudioStream | None:
    """Return the stream that players play, and have libav skip all others; None where none can be read."""
    streams = [
        stream
        for stream in container.streams.audio
        if stream.codec_context is not None and stream.codec_context.name in SOUND_CODECS
    ]
    if not streams:
        return None
    chosen = max(streams, key=lambda stream: bool(stream.disposition & Disposition.default))
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    chosen.codec_context.thread_count = 1
    return chosen
