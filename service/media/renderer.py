"""The renderer process: decodes an untrusted video, has the service draw on its frames, and encodes them.

    service                                      this process
    {"source": "video", ...} + two files   ->
                                           <-    {"alive": true}, {"buffer": bytes} and frames, as a decoder's
    draws on a frame in shared memory
    {"free": first byte}                   ->    encodes the frame
                                           <-    {"end": truncated} or {"error": ...}

So the service never reads or writes the file's own bytes. Run by `decoders.DecoderPool` for one file, see `worker`.
"""

import errno
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from model_core.faces.geometry import Frame
from service.errors import Limit, ServiceError, StorageFull, UndecodableMedia, VideoTooLong
from service.media.encoding import MOST_PIXELS, VideoWriter, most_like
from service.media.limits import DecodeLimits
from service.media.messages import Disconnected, receive, send
from service.media.sound import Sound
from service.media.sources import VideoSource
from service.media.videos import MediaInfo, TimedFrame, Window
from service.media.worker import BASE_BYTES, BYTES_A_PIXEL, SLOTS, Progress, SharedFrames, begin, limit_process

ENCODER_BYTES_A_PIXEL = 128
"""Memory for each pixel of a written frame: the frames that an encoder looks ahead, and those that it refers to."""

RESULT_OVER_UPLOAD = 4
"""Largest result, as a multiple of the largest upload: it may be coded less tightly."""

FINISH_S = 600.0
"""Longest time in seconds in which the index of a file is written and brought to its beginning."""

_ALIVE_S = 1.0
"""Seconds between two signs of life meanwhile."""


class DrawnFrames(SharedFrames):
    """Places for frames on which the service draws; each frame is handed on, with its time, when it comes back."""

    def __init__(self, channel: socket.socket, take: Callable[[Frame, float], None]) -> None:
        super().__init__(channel)
        self._take = take
        self._lent: deque[tuple[tuple[int, ...], float]] = deque()

    def write(self, timed: TimedFrame, info: MediaInfo) -> None:
        """See SharedFrames."""
        super().write(timed, info)
        self._lent.append((timed.frame.shape, timed.time_s))

    def finish(self) -> None:
        """Wait for the frames that the service still has."""
        while self._lent:
            self._given_back()

    def _given_back(self) -> int:
        start = super()._given_back()
        shape, time_s = self._lent.popleft()  # they come back in their order
        self._take(self._place(start, shape), time_s)
        return start


def render(request: dict[str, Any], source: int, target: int, channel: socket.socket) -> None:
    """Render one file into another; both are descriptors. Tells the end, or the error."""
    send(channel, {"alive": True})
    try:
        with _telling_what_a_disk_lacks(request["max_upload"]):
            truncated = _rendered(request, Path(f"/dev/fd/{source}"), Path(f"/dev/fd/{target}"), channel)
        send(channel, {"end": truncated})
    except ServiceError as error:
        send(channel, {"error": type(error).__name__, "detail": error.detail, "limit": error.limit})
    except MemoryError:
        send(channel, {"error": "MemoryError"})
    except Disconnected:
        raise
    except Exception:
        send(channel, {"failure": traceback.format_exc()[-4000:]})


def _rendered(request: dict[str, Any], path: Path, target: Path, channel: socket.socket) -> bool:
    """Render a file, and return whether it ended early."""
    limits = DecodeLimits(**request["limits"])
    window = Window(**request["window"])
    source = VideoSource(path, limits, window)
    writer: VideoWriter | None = None
    size = (0, 0)

    def write(frame: Frame, time_s: float) -> None:
        assert writer is not None
        writer.add(frame, time_s)

    frames = DrawnFrames(channel, write)
    frames.begin(SLOTS)
    with _alive_at_the_end(channel) as ending:
        try:
            for timed in source.frames(Progress(channel)):
                if writer is None:
                    size = most_like(timed.frame)
                    writer = VideoWriter(target, request["media_type"], source.info.fps, _sound(path))
                height, width = timed.frame.shape[:2]
                # What was found in the frame is in its own pixels, so the service is told how many these are.
                shown = replace(source.info, width=width, height=height)
                frames.write(replace(timed, frame=_sized(timed.frame, size)), shown)
            frames.finish()
            ending.set()
            if writer is not None:
                writer.finish(_end_s(window, source.info, limits))
        finally:
            if writer is not None:
                writer.close()
    return source.truncated


def _sized(frame: Frame, size: tuple[int, int]) -> Frame:
    if frame.shape[1::-1] == size:
        return frame
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _sound(path: Path) -> Sound | None:
    """Return the sound of a file whose pictures can be read; None where it has none."""
    try:
        sound = Sound(path)
    except av.FFmpegError:
        return None
    if sound.is_there:
        return sound
    sound.close()
    return None


def _end_s(window: Window, info: MediaInfo, limits: DecodeLimits) -> float:
    """Return the time at which the sound ends at the latest: it may be longer than the picture."""
    begin_s = window.begin_s(info)
    return begin_s + limits.max_video_s if window.end_s is None else window.end_s


@contextmanager
def _telling_what_a_disk_lacks(max_upload: Limit) -> Iterator[None]:
    """Raise StorageFull where the result does not fit the disk, and VideoTooLong where it is beyond its limit."""
    try:
        yield
    except MemoryError:  # which one of libav is, too
        raise
    except av.FFmpegError as error:
        if error.errno == errno.EFBIG:
            detail = (
                f"the video would become larger than {RESULT_OVER_UPLOAD} times the largest upload: "
                "use start_s and end_s"
            )
            raise VideoTooLong(detail, limit=max_upload) from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the folder of jobs is full") from None
        raise UndecodableMedia("the video cannot be written anew") from error


@contextmanager
def _alive_at_the_end(channel: socket.socket) -> Iterator[threading.Event]:
    """Give signs of life once the event is set, until the block ends or FINISH_S have passed."""
    ending, ended = threading.Event(), threading.Event()

    def tell() -> None:
        ending.wait()
        for _ in range(round(FINISH_S / _ALIVE_S)):
            if ended.wait(_ALIVE_S):
                return
            send(channel, {"alive": True})

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield ending
    finally:
        ended.set()
        ending.set()
        thread.join()


def main() -> None:
    """Render one file on the socket of the first argument's descriptor; the second is the largest frame's pixels."""
    channel = begin()
    message, descriptors = receive(channel)
    source, target = descriptors
    max_pixels = int(sys.argv[2])
    memory_bytes = BYTES_A_PIXEL["video"] * max_pixels + ENCODER_BYTES_A_PIXEL * min(max_pixels, MOST_PIXELS)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit_process(BASE_BYTES + memory_bytes, RESULT_OVER_UPLOAD * int(message["max_upload"]["value"]))
    try:
        render(message, source, target, channel)
    finally:
        os.close(source)
        os.close(target)


if __name__ == "__main__":
    main()
