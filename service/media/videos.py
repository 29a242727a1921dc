"""Reads the frames of a window of an untrusted video file, under limits. All errors are ServiceErrors."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Self

from model_core.faces.geometry import Frame
from service.errors import InvalidParameter, NoVideoFrames
from service.media.demuxing import ROUNDING_S, DecodedFrame, Keyframe, VideoFile
from service.media.display import Screen, deinterlaced
from service.media.limits import DecodeLimits

_PRECISION_S = 2e-6
"""Times are rounded to microseconds, so two of them that are this much less than a second apart are a second apart."""


@dataclass(frozen=True)
class MediaInfo:
    """Size, rate and place in time of a picture or a video, as known before its frames are analysed."""

    width: int
    """Width of the upright frames in pixels."""
    height: int
    """Height of the upright frames in pixels."""
    fps: float | None = None
    """Average frames a second; None for a picture, and if the container does not tell it."""
    start_s: float | None = None
    """Timestamp of the first frame in seconds, on the clock that the file's streams share; None for a picture."""
    duration_s: float | None = None
    """Seconds from there to the end; None for a picture, and if the container does not tell it."""


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
    """Most analysed frames in any second, rounded up."""
    start_s: float = 0.0
    """Start in seconds of the source's timestamps, included; 0: the beginning of the video."""
    end_s: float | None = None
    """End in seconds, excluded; None: the end of the video."""

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise InvalidParameter("fps: must be a finite number above 0")
        if not 0 <= self.start_s < math.inf:
            raise InvalidParameter("start_s: must be a finite number of at least 0")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise InvalidParameter("end_s: must be greater than start_s")

    def begin_s(self, info: MediaInfo) -> float:
        """Return when the part of a video begins, on the clock of its timestamps."""
        first_s = info.start_s or 0.0
        return max(self.start_s, first_s) if self.start_s else first_s

    def length_s(self, info: MediaInfo) -> float | None:
        """Return the seconds of a video that the window covers; None if neither end is known."""
        begin_s = self.begin_s(info)
        ends = [] if self.end_s is None else [self.end_s]
        if info.duration_s is not None:
            ends.append((info.start_s or 0.0) + info.duration_s)
        # It is not below zero, since the largest start_s would make an infinite number of frames.
        return max(0.0, min(ends) - begin_s) if ends else None


@dataclass(frozen=True)
class Taken:
    """The frames that a Pace has taken, as far as they decide on those after them."""

    count: int
    last_s: float
    """Timestamp of the last one."""
    due_s: float
    """Time from which the next frame is due."""
    last_second_s: Sequence[float]
    """Timestamps of those in the second before the last one."""


def open_video(
    path: Path, limits: DecodeLimits, window: Window, cancelled: Event | None = None, taken: Taken | None = None
) -> "Video":
    """Open a video file, in one of demuxing.FORMATS, to read the frames of a window.

    `taken`: the frames that an earlier reading has taken; this one goes on behind them. What the container announces is
    checked here, and what it really holds while reading. Once `cancelled` is set, the reading ends before its next
    frame. Raises UnsupportedMediaType, UndecodableMedia, NoVideoFrames, InvalidParameter, TooManyPixels or
    VideoTooLong.
    """
    with ExitStack() as stack:
        file = stack.enter_context(VideoFile(path, limits))
        limits.check_pixels(*file.coded_size)
        video = Video(file, limits, window, cancelled or Event(), taken)
        stack.pop_all()
        return video


class Pace:
    """Chooses frames so that no second has more than `fps`, rounded up, of them, whatever the source's frame rate does.

    A frame is due 1 / fps seconds after the one before it was due, so that a constant rate does not drift; one that
    comes a whole interval late or more delays those after it. This takes the most frames that any choice under these
    rules can have, so a higher rate never gives fewer.
    """

    def __init__(self, fps: float, begin_s: float, taken: Taken | None = None) -> None:
        """`taken`: the frames that another Pace with the same rate and beginning has taken, which come first."""
        self._interval_s = 1 / fps
        self._most = math.ceil(fps)
        taken = taken or Taken(0, -math.inf, begin_s, ())
        self._count = taken.count
        self._last_s = taken.last_s
        self._due_s = taken.due_s
        self._last_second = deque(taken.last_second_s)

    @property
    def taken(self) -> Taken:
        """The frames that have been taken."""
        return Taken(self._count, self._last_s, self._due_s, tuple(self._last_second))

    def takes(self, time_s: float) -> bool:
        """Return whether to take the next frame, whose timestamp is later than those before.

        Frames up to the last one that was taken may come again, and are not.
        """
        while self._last_second and time_s - self._last_second[0] > 1 - _PRECISION_S:
            self._last_second.popleft()
        is_new = time_s > self._last_s
        if not is_new or time_s < self._due_s - ROUNDING_S or len(self._last_second) >= self._most:
            return False
        self._count += 1
        self._last_s = time_s
        self._last_second.append(time_s)
        self._due_s = max(self._due_s + self._interval_s, time_s)
        return True


class Video:
    """A video that is read once, front to back, one frame in memory at a time. Use it in a `with` block.

    Which frames are taken follows from the source's timestamps alone (see Pace). Of what lies before the window only
    the frames since the last keyframe are decoded. Two threads must not use it at once.
    """

    def __init__(
        self, file: VideoFile, limits: DecodeLimits, window: Window, cancelled: Event, taken: Taken | None = None
    ) -> None:
        self._file = file
        self._limits = limits
        self._window = window
        self._cancelled = cancelled
        self._taken = taken
        self._screen = Screen(file.pixel_aspect, limits)
        self._frames = deinterlaced(file.frames(cancelled))
        first = next(self._frames, None)
        if first is None:
            raise NoVideoFrames("no frame of the video can be decoded")
        self._frames = chain([first], self._frames)
        self.info = self._info(first)
        self.truncated = False
        """True if the file ends early, as far as its format tells (see VideoFile); known after the last frame."""
        self._check_window()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder; may be called again."""
        self._file.close()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames of the window.

        Raises VideoTooLong if the file holds more than it announced and than the limits allow, InvalidParameter if it
        ends before `start_s`, and TooManyPixels if its frames grow beyond the limit.
        """
        window = self._window
        begin_s = window.begin_s(self.info)
        pace = Pace(window.fps, begin_s, self._taken)
        time_s = -math.inf
        for frame in self._frames_from(begin_s if self._taken is None else self._taken.last_s):
            if self._cancelled.is_set():
                return
            time_s = frame.time_s
            if window.end_s is not None and time_s >= window.end_s:
                return
            self._limits.check_length(time_s - begin_s)
            if pace.takes(time_s):
                self._limits.check_frames(pace.taken.count)
                yield TimedFrame(self._screen.shown(frame.picture), time_s, frame.index)
        if not self._cancelled.is_set():
            self.truncated = self._file.is_truncated
            if time_s < begin_s - ROUNDING_S:
                raise InvalidParameter(f"start_s: the video's last frame is at {time_s:.3f} s")

    def _info(self, first: DecodedFrame) -> MediaInfo:
        width, height = self._screen.size(first.picture)
        return MediaInfo(width, height, self._file.fps, first.time_s, self._file.duration_s(first.time_s))

    def _check_window(self) -> None:
        """Refuse at once a window that ends before the video begins, or is too long by what the container announces.

        Only reading can tell that a video ends before the window, since the announced length may be far too short, and
        how many frames there are to take unless they are all equally long.
        """
        window, info = self._window, self.info
        if window.end_s is not None and window.end_s <= window.begin_s(info):
            raise InvalidParameter(f"end_s: the video's first frame is at {info.start_s:.3f} s")
        length_s = window.length_s(info)
        if info.duration_s is None or length_s is None:
            return
        self._limits.check_length(length_s)
        if info.fps is not None and self._file.has_constant_rate:
            self._limits.check_frames(math.floor(length_s * min(window.fps, info.fps)))

    def _frames_from(self, time_s: float) -> Iterator[DecodedFrame]:
        """Return an iterator over the frames that begins at or before a time, near it if there is a keyframe."""
        if time_s <= (self.info.start_s or 0.0):
            return self._frames
        start = self._keyframe_before(time_s)
        if start is None:
            return self._frames
        self._reopen()
        frames = deinterlaced(self._file.frames(self._cancelled, start))
        first = next(frames, None)
        if first and first.time_s == start.time_s and not first.picture.is_corrupt:
            return chain([first], frames)
        # The picture is only refreshed bit by bit, so nothing less than all of the file gives these frames.
        self._reopen()
        return deinterlaced(self._file.frames(self._cancelled))

    def _keyframe_before(self, time_s: float) -> Keyframe | None:
        with self._file.again() as scout:
            try:
                return scout.keyframe_before(time_s, self._cancelled)
            except InvalidParameter:
                if self._taken is None:
                    raise
                return None  # there was a frame at this time, whose packet did not tell it

    def _reopen(self) -> None:
        self._file.close()
        self._file = self._file.again()
