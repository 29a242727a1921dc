"""Untrusted bytes become upright RGB frames, under limits: one image, or a video read lazily.

An image's size is checked before it is decoded, a video's before it is read. All errors are ServiceErrors.
"""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from model_core.faces.geometry import Frame
from service.errors import InvalidParameter, NoVideoFrames, ServiceError, UndecodableMedia
from service.media.images import decode_over_white, read_image_header
from service.media.limits import DecodeLimits
from service.media.videos import recognise_video

# A damaged upload is the client's news, not the log's; both libraries would print each one to stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
os.putenv("OPENCV_FFMPEG_LOGLEVEL", "-8")

_ROUNDING_S = 0.001
"""Containers round timestamps to milliseconds: a frame this much early is on time."""

_TRUNCATION_S = 0.5
"""How much earlier than announced a sound file may end: encoders and edit lists drop a few frames."""


def decode_image(data: bytes, limits: DecodeLimits) -> Frame:
    """Decode a JPEG, PNG, WebP or BMP: uint8 [H, W, 3] RGB, EXIF orientation applied; of an animation the first frame.

    Grey and CMYK become RGB, 16-bit samples keep their upper 8 bits, transparent pixels are blended over white, as
    viewers show them. Raises UnsupportedMediaType, TooManyPixels or UndecodableMedia, the last for cut files too.
    """
    header = read_image_header(data)
    limits.check_pixels(header.width, header.height)
    buffer = np.frombuffer(data, np.uint8)
    try:
        if header.alpha and (blended := decode_over_white(buffer)) is not None:
            return blended
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise UndecodableMedia("the image is damaged or incomplete")
    return np.asarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class VideoInfo:
    """Pixels of the upright frames, average frames a second and length; None where the container does not say."""

    width: int
    height: int
    fps: float | None
    duration_s: float | None


@dataclass(frozen=True)
class TimedFrame:
    """An upright RGB frame uint8 [H, W, 3], the source's timestamp in seconds, its index among all frames from 0."""

    frame: Frame
    time_s: float
    index: int


def open_video(
    path: Path, limits: DecodeLimits, *, fps: float, start_s: float = 0.0, end_s: float | None = None
) -> "Video":
    """Open an mp4, mov, webm, mkv, avi or gif file to read its frames in [start_s, end_s) at `fps` frames a second.

    What the container announces is checked here, what it really holds while reading. Raises InvalidParameter,
    UnsupportedMediaType, UndecodableMedia, NoVideoFrames, TooManyPixels or VideoTooLong.
    """
    window = _Window(fps, start_s, end_s)
    file = recognise_video(path)
    with ExitStack() as stack:
        # One thread: a pool of decoders shares the cores already.
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        stack.callback(capture.release)
        if not capture.isOpened():
            raise file.why_unreadable()
        info = _info(capture)
        limits.check_pixels(info.width, info.height)
        _check_window(window, info, limits)
        if not capture.grab():
            raise NoVideoFrames("no frame of the video can be decoded")
        stack.pop_all()
        return Video(capture, info, limits, window, file.is_cut())


class Video:
    """A video that is read once, front to back, one frame in memory at a time. Use it in a `with` block.

    Frames follow the source's timestamps: of each 1/fps of a second since `start_s` the first frame is taken, so the
    rate does not drift; an `fps` of the source's or above takes every frame. Frames before `start_s` are read and
    skipped, which keeps indices exact. Not for use by two threads at once, except for `stop`.
    """

    def __init__(
        self, capture: cv2.VideoCapture, info: VideoInfo, limits: DecodeLimits, window: "_Window", cut: bool
    ) -> None:
        self.info = info
        self.truncated = False
        """Whether the file is cut or ended much earlier than it announced; known after the last frame."""
        self._capture = capture
        self._limits = limits
        self._window = window
        self._cut = cut
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder; may be called again."""
        self._stopped = True
        self._capture.release()

    def stop(self) -> None:
        """End the iteration before its next frame, even amid a long skip; may be called from any thread."""
        self._stopped = True

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames of the window. Raises VideoTooLong where the file holds more than it announced.

        Raises InvalidParameter where it ends before `start_s`, UndecodableMedia where its first frame is damaged.
        """
        window, taken, due_s, time_s = self._window, 0, self._window.start_s - _ROUNDING_S, 0.0
        for index, time_s in self._grabbed():
            if window.end_s is not None and time_s >= window.end_s:
                return
            self._limits.check_length(time_s - window.start_s)
            if time_s < due_s:
                continue
            taken += 1
            self._limits.check_frames(taken)
            try:
                frame = self._retrieve()
            except ServiceError:
                if taken == 1:
                    raise
                self.truncated = True  # what was read before the damage is the answer
                return
            yield TimedFrame(frame, time_s, index)
            due_s = window.next_due_s(time_s, self.info.fps)
        if not self._stopped:
            self.truncated = self._cut or self._ended_early(index + 1, time_s)
            if time_s < window.start_s - _ROUNDING_S:
                raise InvalidParameter(f"start_s: the video's last frame is at {time_s:.3f} s")

    def _grabbed(self) -> Iterator[tuple[int, float]]:
        """Index and timestamp of each frame, which stays undecoded to RGB; the first has been grabbed by open_video."""
        for index in count():
            if self._stopped or (index > 0 and not self._capture.grab()):
                return
            yield index, round(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)

    def _retrieve(self) -> Frame:
        try:
            found, image = self._capture.retrieve()
        except cv2.error:
            found = False
        if not found:
            raise UndecodableMedia("a frame of the video is damaged")
        self._limits.check_pixels(image.shape[1], image.shape[0])  # it may change within a file
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _ended_early(self, frames: int, last_s: float) -> bool:
        """By count and by time: with variable rates one of the two is an estimate, and either may mislead."""
        fps, duration_s = self.info.fps, self.info.duration_s
        if fps is None or duration_s is None:
            return False
        return frames < round(duration_s * fps) and last_s + 1 / fps < duration_s - _TRUNCATION_S


@dataclass(frozen=True)
class _Window:
    """The requested part of a video, [start_s, end_s), and its rate."""

    fps: float
    start_s: float
    end_s: float | None

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise InvalidParameter("fps: must be a positive number")
        if not 0 <= self.start_s < math.inf:
            raise InvalidParameter("start_s: must not be negative")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise InvalidParameter("end_s: must be greater than start_s")

    def next_due_s(self, time_s: float, source_fps: float | None) -> float:
        """When the frame after one at `time_s` is due: on the grid start_s + k / fps, or next where all are taken."""
        if source_fps is not None and self.fps >= source_fps:
            return math.nextafter(time_s, math.inf)
        steps = math.floor((time_s + _ROUNDING_S - self.start_s) * self.fps) + 1
        return self.start_s + steps / self.fps - _ROUNDING_S


def _check_window(window: _Window, info: VideoInfo, limits: DecodeLimits) -> None:
    """Refuse at once what the container announces to be too long. That it ends before the window only reading can tell:
    with variable rates the announced length may be far too short."""
    if info.fps is None or info.duration_s is None:
        return
    # Not below zero: the largest start_s would make an infinite number of frames.
    length_s = max(0.0, min(info.duration_s, math.inf if window.end_s is None else window.end_s) - window.start_s)
    limits.check_length(length_s)
    limits.check_frames(math.floor(length_s * min(window.fps, info.fps)))


def _info(capture: cv2.VideoCapture) -> VideoInfo:
    """Size after rotation, and what is plausible of rate and length; a missing length is a huge negative count."""
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    known_fps = fps if 0 < fps < math.inf else None
    duration_s = frames / known_fps if known_fps and 0 < frames < math.inf else None
    width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    return VideoInfo(width, height, known_fps, duration_s)
