"""Writes RGB frames, each at a time of its own, and a source's sound into a video file that browsers play."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from model_core.faces.geometry import Frame
from service.media.sound import Sound

MOST_PIXELS = 4096 * 2160
"""Largest frame that is written, in pixels: what H.264's level 5.1 has, and browsers play. Larger ones are shrunk."""

_KEYFRAME_S = 2.0
"""Seconds between two keyframes, about: a player can jump to these."""

_USUAL_FPS = 25.0
"""Frames a second that the spacing of keyframes assumes where the source does not tell them."""


_MOST_FPS = 1000.0
"""Highest rate, and 1 the lowest, that an encoder is told: what a file claims may be anything."""


@dataclass(frozen=True)
class VideoForm:
    """A container with the codecs that go into it, by libav's names."""

    container: str
    picture: str
    picture_options: Mapping[str, str]
    sound: str
    copied_sound: frozenset[str]
    """Codecs of a source's sound that are taken over as they are."""
    tick: Fraction
    """Unit of its timestamps in seconds."""
    options: Mapping[str, str]
    """Of the container: its index is put at the beginning, so that a browser plays what it has so far."""


FORMS: Final[Mapping[str, VideoForm]] = MappingProxyType(
    {
        "video/mp4": VideoForm(
            "mp4",
            "libx264",
            {"preset": "veryfast", "crf": "21", "x264-params": "rc-lookahead=10:sync-lookahead=0"},
            "aac",
            frozenset({"aac"}),
            Fraction(1, 90_000),
            {"movflags": "faststart"},
        ),
        "video/webm": VideoForm(
            "webm",
            "libvpx-vp9",
            {"crf": "31", "deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"},
            "libopus",
            frozenset({"opus", "vorbis"}),
            Fraction(1, 1000),
            {"cues_to_front": "1"},
        ),
    }
)
"""Forms of a video by media type."""


class VideoWriter:
    """A video file that is written front to back; its index comes when it is closed.

    Times begin with the first frame, at 0; of the source's sound what was before is left out. Nothing of the source's
    metadata is taken over. The size is the first frame's, made even by repeating the last row and column; all
    frames have it. Raises av.FFmpegError, with the errno of a disk that is full.
    """

    def __init__(self, target: Path, media_type: str, fps: float | None, sound: Sound | None = None) -> None:
        """`media_type`: one of FORMS. `fps`: the average rate, which only spaces the keyframes."""
        self._form = FORMS[media_type]
        self._fps = min(_MOST_FPS, max(1.0, fps or _USUAL_FPS))
        self._sound = sound
        self._first_s: float | None = None
        self._last = -1
        self._step = 0
        self._size = (0, 0)
        with ExitStack() as stack:
            if sound is not None:
                stack.callback(sound.close)
            self._container = av.open(
                f"file:{target}", "w", format=self._form.container, options=dict(self._form.options)
            )
            stack.callback(self._container.close)
            self._resources = stack.pop_all()

    def add(self, frame: Frame, time_s: float) -> None:
        """Write the next frame, uint8 [H, W, 3] RGB, shown from a time in seconds on the source's clock."""
        if self._first_s is None:
            self._begin(frame, time_s)
        assert self._first_s is not None
        number = max(self._last + 1, round((time_s - self._first_s) / self._form.tick))
        if self._last >= 0:
            self._step = number - self._last
        self._last = number
        if self._sound is not None:
            self._sound.write_until(time_s, self._container)
        picture = VideoFrame.from_ndarray(_fitted(frame, self._size), "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        picture.pts = number
        picture.time_base = self._form.tick
        self._encode(picture)

    def finish(self, end_s: float) -> None:
        """Write what the encoders still hold, and the sound up to a time on the source's clock."""
        if self._first_s is None:
            return
        self._encode(None)
        if self._sound is not None:
            self._sound.write_until(end_s, self._container)
            self._sound.finish(self._container)

    def close(self) -> None:
        """Write the index, and release the files; may be called again."""
        self._resources.close()

    def _begin(self, frame: Frame, time_s: float) -> None:
        height, width = frame.shape[:2]
        self._size = (width + width % 2, height + height % 2)
        self._first_s = time_s
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = cast("VideoStream", self._container.add_stream(self._form.picture, rate=rate))
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = dict(self._form.picture_options)
        self._stream.time_base = self._form.tick
        context = self._stream.codec_context
        context.time_base = self._form.tick
        context.thread_count = 1  # a pool of decoders shares the cores already
        context.bit_rate = 0  # the quality decides
        context.gop_size = max(1, round(_KEYFRAME_S * self._fps))
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        if self._sound is not None:
            self._sound.begin(self._container, self._form.sound, self._form.copied_sound, time_s)

    def _encode(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            if not packet.duration:
                packet.duration = self._step
            self._container.mux(packet)


def most_like(frame: Frame, pixels: int = MOST_PIXELS) -> tuple[int, int]:
    """Return width and height of a frame that has at most so many pixels, in the same proportions."""
    height, width = frame.shape[:2]
    scale = min(1.0, (pixels / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    """Return a frame in an even size, which is its own but for one more row and column."""
    width, height = size
    bottom, right = height - frame.shape[0], width - frame.shape[1]
    if not bottom and not right:
        return frame
    return np.asarray(cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE), dtype=np.uint8)
