"""The decoder process: untrusted bytes -> frames in shared memory. Run by `decoders.DecoderPool`, one file at a time.

    service                                      this process
    {"source": "video", ...} + the file    ->    limits itself, opens the file
                                           <-    {"info": ...}
                                           <-    {"buffer": bytes of a frame}
    {} + shared memory, SLOTS times that   ->
                                           <-    {"frame": slot, "height": ..., "time_s": ...}, SLOTS ahead
    {"free": slot}                         ->
                                           <-    {"end": truncated} or {"error": ...}

A decoder that crashes, hangs or takes too much memory dies here, and the service loses one answer. It imports neither
torch nor the web framework, and it ends when its standard input does, so it does not outlive the service.
"""

import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.errors import ServiceError
from service.media.limits import DecodeLimits
from service.media.messages import Disconnected, receive, send
from service.media.sources import PictureSource, Source, VideoSource
from service.media.videos import TimedFrame, Window

SLOTS = 2
"""Frames in shared memory: while the service looks at one, the next is decoded."""

BYTES_A_PIXEL = 16
"""Memory for each pixel of the largest frame: a picture of four 16-bit channels, its 8-bit copy and the result."""

BASE_BYTES = 512 * 1024 * 1024
"""Memory beyond the frames: libraries, a decoder's reference frames, and the file's own structures."""

MAX_RESIDENT_BYTES = 384 * 1024 * 1024
"""Resident memory after a file above which the process is not used again."""

_ALIVE_S = 0.5
"""Seconds after which a process that skips frames tells that it gets on."""

_MAX_DESCRIPTORS = 64


def limit_process(max_pixels: int) -> None:
    """Bound the memory and the descriptors of this process; it may not write files, and leaves no core dump."""
    memory = BASE_BYTES + BYTES_A_PIXEL * max_pixels
    for name, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


class Progress(threading.Event):
    """Stands in for the cancellation that readers ask for between frames: each question shows that they get on."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__()
        self._channel = channel
        self._told_s = time.monotonic()

    def is_set(self) -> bool:
        """Tell the service now and then that frames are being read; the service kills a process it needs no more."""
        now_s = time.monotonic()
        if now_s - self._told_s > _ALIVE_S:
            self._told_s = now_s
            send(self._channel, {"alive": True})
        return False


class SharedFrames:
    """The slots of shared memory, as this process writes them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._memory = np.empty(0, np.uint8)
        self._free: list[int] = []

    def begin(self) -> None:
        """All slots are free for a new file."""
        self._free = list(range(SLOTS))

    def write(self, timed: TimedFrame) -> None:
        """Copy a frame into a free slot and tell the service; waits until there is one."""
        frame = timed.frame
        if frame.nbytes > len(self._memory) // SLOTS:
            self._grow(frame.nbytes)
        while not self._free:
            self._free.append(int(receive(self._channel)[0]["free"]))
        slot = self._free.pop(0)
        start = slot * (len(self._memory) // SLOTS)
        np.copyto(self._memory[start : start + frame.nbytes].reshape(frame.shape), frame)
        height, width = frame.shape[:2]
        place = {"time_s": timed.time_s, "index": timed.index}
        send(self._channel, {"frame": slot, "height": height, "width": width} | place)

    def _grow(self, slot_bytes: int) -> None:
        send(self._channel, {"buffer": slot_bytes})
        descriptors: list[int] = []
        while not descriptors:  # slots of the smaller memory may be given back first
            _, descriptors = receive(self._channel)
        self._memory = np.frombuffer(mmap.mmap(descriptors[0], slot_bytes * SLOTS), np.uint8)
        os.close(descriptors[0])
        self._free = list(range(SLOTS))


def decode(request: dict[str, Any], descriptor: int, channel: socket.socket, frames: SharedFrames) -> None:
    """Read the frames of one file and send them, then the end or the error."""
    frames.begin()
    try:
        source = open_source(request, descriptor)
        told = False
        for timed in source.frames(Progress(channel)):
            if not told:
                send(channel, {"info": asdict(source.info)})
                told = True
            frames.write(timed)
        info = {} if told or not hasattr(source, "info") else {"info": asdict(source.info)}
        send(channel, {"end": source.truncated, "reusable": _resident_bytes() < MAX_RESIDENT_BYTES} | info)
    except ServiceError as error:
        send(channel, {"error": type(error).__name__, "detail": error.detail, "limit": error.limit})
    except MemoryError:
        send(channel, {"error": "MemoryError"})
        raise
    except Disconnected:
        raise
    except Exception:
        send(channel, {"failure": traceback.format_exc()[-4000:]})


def open_source(request: dict[str, Any], descriptor: int) -> Source:
    """Return the source that a request describes; `descriptor` is the open file."""
    limits = DecodeLimits(**request["limits"])
    if request["source"] == "picture":
        return PictureSource(open(descriptor, "rb", closefd=False), limits)
    return VideoSource(Path(f"/dev/fd/{descriptor}"), limits, Window(**request["window"]))


def requests(channel: socket.socket) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield requests and their files until the service closes the connection."""
    while True:
        try:
            message, descriptors = receive(channel)
        except Disconnected:
            return
        if "source" in message and descriptors:  # slots of the file before may still be given back
            yield message, descriptors[0]


def main() -> None:
    """Serve requests on the socket whose descriptor is the first argument; the second is the largest frame's pixels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the service's to handle
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    cv2.setNumThreads(1)
    limit_process(int(sys.argv[2]))
    channel = socket.socket(fileno=int(sys.argv[1]))
    frames = SharedFrames(channel)
    for request, descriptor in requests(channel):
        try:
            decode(request, descriptor, channel, frames)
        finally:
            os.close(descriptor)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _end_with_the_service() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
