"""Reads an untrusted video file frame by frame, under limits. All errors are ServiceErrors."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Self

import cv2
import numpy as np

from model_core.faces.geometry import Frame
from service.errors import InvalidParameter, NoVideoFrames, ServiceError, UndecodableMedia
from service.media.containers import recognise_video
from service.media.limits import DecodeLimits

# FFmpeg would print a line for each damaged upload, which concerns its client and not the log.
os.putenv("OPENCV_FFMPEG_LOGLEVEL", "-8")

_ROUNDING_S = 0.001
"""Containers round timestamps to milliseconds, so a frame that is this much early counts as on time."""

_TRUNCATION_S = 0.5
"""Seconds by which an intact file may end earlier than announced: encoders and edit lists drop a few frames."""


@dataclass(frozen=True)
class MediaInfo:
    """Size, rate and length of a picture or a video, as known before its frames are analysed."""

    width: int
    """Width of the upright frames in pixels."""
    height: int
    """Height of the upright frames in pixels."""
    fps: float | None = None
    """Average frames a second; None for a picture, and if the container does not tell it."""
    duration_s: float | None = None
    """Length in seconds; None for a picture, and if the container does not tell it."""


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and its place in the source."""

    frame: Frame
    """uint8 [H, W, 3], RGB, upright."""
    time_s: float
    """The source's timestamp in seconds."""
    index: int
    """Index among all frames of the source, from 0."""


@dataclass(frozen=True)
class Window:
    """The requested part of a video. Raises InvalidParameter for values that are out of range or contradictory."""

    fps: float = 10.0
    """Analysed frames a second, at most the source's."""
    start_s: float = 0.0
    """Start in seconds of the source's timestamps, included."""
    end_s: float | None = None
    """End in seconds, excluded; None: the end of the video."""

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise InvalidParameter("fps: must be a positive number")
        if not 0 <= self.start_s < math.inf:
            raise InvalidParameter("start_s: must not be negative")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise InvalidParameter("end_s: must be greater than start_s")

    def length_s(self, duration_s: float | None) -> float | None:
        """Return the seconds from the start to the end of the window or of the video; None if neither end is known."""
        ends = [end for end in (self.end_s, duration_s) if end is not None]
        # It is not below zero, since the largest start_s would make an infinite number of frames.
        return max(0.0, min(ends) - self.start_s) if ends else None

    def next_due_s(self, time_s: float, source_fps: float | None) -> float:
        """Return when the frame after one at `time_s` is due, in seconds.

        That is on the grid start_s + k / fps, or at once if every frame is taken.
        """
        if source_fps is not None and self.fps >= source_fps:
            return math.nextafter(time_s, math.inf)
        steps = math.floor((time_s + _ROUNDING_S - self.start_s) * self.fps) + 1
        return self.start_s + steps / self.fps - _ROUNDING_S


def open_video(path: Path, limits: DecodeLimits, window: Window, cancelled: Event | None = None) -> "Video":
    """Open an mp4, mov, webm, mkv, avi or gif file to read the frames of a window.

    What the container announces is checked here, and what it really holds while reading. Once `cancelled` is set, the
    reading ends before its next frame. Raises UnsupportedMediaType, UndecodableMedia, NoVideoFrames, TooManyPixels
    or VideoTooLong.
    """
    file = recognise_video(path)
    with ExitStack() as stack:
        # One thread, since a pool of decoders shares the cores already.
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
        return Video(capture, info, limits, window, is_cut=file.is_cut(), cancelled=cancelled or Event())


class Video:
    """A video that is read once, front to back, one frame in memory at a time. Use it in a `with` block.

    Frames are taken by the source's timestamps: the first one in each interval of 1/fps seconds since `start_s`, so the
    rate does not drift. An `fps` of the source's or above takes every frame. Frames before `start_s` are read and
    skipped, which keeps indices exact. Two threads must not use it at once.
    """

    def __init__(
        self,
        capture: cv2.VideoCapture,
        info: MediaInfo,
        limits: DecodeLimits,
        window: Window,
        *,
        is_cut: bool,
        cancelled: Event,
    ) -> None:
        self.info = info
        self.truncated = False
        """True if the file is cut off or ended much earlier than it announced; known after the last frame."""
        self._capture = capture
        self._limits = limits
        self._window = window
        self._is_cut = is_cut
        self._cancelled = cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder; may be called again."""
        self._capture.release()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames of the window.

        Raises VideoTooLong if the file holds more than it announced and than the limits allow, InvalidParameter if it
        ends before `start_s`, and UndecodableMedia if its first frame is damaged.
        """
        window = self._window
        due_s = window.start_s - _ROUNDING_S
        taken = 0
        time_s = 0.0
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
                self.truncated = True  # the answer is what was read before the damage
                return
            yield TimedFrame(frame, time_s, index)
            due_s = window.next_due_s(time_s, self.info.fps)
        if not self._cancelled.is_set():
            self.truncated = self._is_cut or self._ended_early(index + 1, time_s)
            if time_s < window.start_s - _ROUNDING_S:
                raise InvalidParameter(f"start_s: the video's last frame is at {time_s:.3f} s")

    def _grabbed(self) -> Iterator[tuple[int, float]]:
        """Yield index and timestamp of each frame, not yet converted to RGB; open_video has grabbed the first one."""
        for index in count():
            if self._cancelled.is_set() or (index > 0 and not self._capture.grab()):
                return
            yield index, round(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)

    def _retrieve(self) -> Frame:
        try:
            found, image = self._capture.retrieve()
        except cv2.error:
            found = False
        if not found:
            raise UndecodableMedia("a frame of the video is damaged")
        self._limits.check_pixels(image.shape[1], image.shape[0])  # the size may change within a file
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _ended_early(self, frames: int, last_s: float) -> bool:
        """Judge by count and by time, since with variable frame rates either may be a wrong estimate."""
        fps, duration_s = self.info.fps, self.info.duration_s
        if fps is None or duration_s is None:
            return False
        return frames < round(duration_s * fps) and last_s + 1 / fps < duration_s - _TRUNCATION_S


def _check_window(window: Window, info: MediaInfo, limits: DecodeLimits) -> None:
    """Refuse at once a window that is too long by what the container announces.

    Only reading can tell that a video ends before the window, since with variable frame rates the announced length may
    be far too short.
    """
    if info.fps is None or info.duration_s is None:
        return
    length_s = window.length_s(info.duration_s) or 0.0
    limits.check_length(length_s)
    limits.check_frames(math.floor(length_s * min(window.fps, info.fps)))


def _info(capture: cv2.VideoCapture) -> MediaInfo:
    """Return the size after rotation, and rate and length if they are plausible.

    OpenCV gives a missing length as a huge negative number of frames.
    """
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    known_fps = fps if 0 < fps < math.inf else None
    duration_s = frames / known_fps if known_fps and 0 < frames < math.inf else None
    width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    return MediaInfo(width, height, known_fps, duration_s)
