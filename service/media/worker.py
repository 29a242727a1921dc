"""The decoder process: untrusted bytes -> frames in shared memory. Run by `decoders.DecoderPool`, one file at a time.

    service                                      this process
    {"source": "video", ...} + the file    ->
                                           <-    {"alive": true}; limits itself, opens the file
                                           <-    {"buffer": bytes}, where it has not enough shared memory
    {} + shared memory                     ->
                                           <-    {"frame": its first byte, "height": ..., "info": ...}, SLOTS ahead
    {"free": first byte}                   ->
                                           <-    {"end": truncated} or {"error": ...}

A decoder that crashes, hangs or takes too much memory dies here, and the service loses one answer. It imports neither
torch nor the web framework, and it ends when its standard input does, so it does not outlive the service.
"""

import math
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np

from model_core.faces.geometry import Frame
from service.errors import ServiceError
from service.machine import give_freed_memory_back
from service.media.limits import DecodeLimits
from service.media.messages import Disconnected, receive, send
from service.media.sources import PictureSource, VideoSource
from service.media.videos import MediaInfo, Taken, TimedFrame, Window

SLOTS = 2
"""Frames of a video in shared memory: while the service looks at one, the next is decoded."""

KEPT_BYTES = 16 * 1024 * 1024
"""Shared memory that is kept for the next file; more is returned to the system."""

BYTES_A_PIXEL: Final[Mapping[str, int]] = MappingProxyType({"picture": 16, "video": 10})
"""Memory for each pixel of the largest frame. A picture may have four 16-bit channels, which are there beside its 8-bit
copy and the result; of a video with so large frames a decoder keeps few."""

BASE_BYTES = 512 * 1024 * 1024
"""Memory beyond the frames: libraries, a decoder's reference frames, and the file's own structures. An MP4 file of some
hundred bytes can claim any number of samples, for each of which libav takes up to 90 bytes."""

MAX_RESIDENT_BYTES = 384 * 1024 * 1024
"""Resident memory after a file above which the process is not used again."""

_ALIVE_S = 0.5
"""Seconds after which a process that skips frames tells that it gets on."""

_MAX_DESCRIPTORS = 64

_NICENESS = 5
"""How far the service goes before this process where both want a core: files that take long would delay all answers."""


def limit_process(memory_bytes: int, file_bytes: int = 0) -> None:
    """Bound the memory, the descriptors and the files of this process, which leaves no core dump.

    memory_bytes: for each file the memory is bounded further, see `limit_memory`. file_bytes: the longest file that it
    may write; by default none.

    Where the system runs out of memory all the same, it is to end this process and not the service.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def file_memory_bytes(source: str, max_pixels: int) -> int:
    """Return the bytes of memory that a process may take for one file, a `picture` or a `video`."""
    return BASE_BYTES + BYTES_A_PIXEL[source] * max_pixels


def limit_memory(source: str, max_pixels: int) -> None:
    """Bound the memory of this process for one file; see `file_memory_bytes`."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(most, file_memory_bytes(source, max_pixels)), most))


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
    """Places for frames in shared memory, as this process writes them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._memory = np.empty(0, np.uint8)
        self._slots = SLOTS
        self._free: list[int] = []
        self._place_bytes = 0

    def begin(self, slots: int) -> None:
        """Forget the frames of the file before; the next one has `slots` places."""
        self._slots = slots
        self._place_bytes = 0

    def end(self) -> None:
        """Let go of much memory after a file, as the service does; whoever looks at a frame has it mapped, too."""
        if len(self._memory) > KEPT_BYTES:
            self._memory = np.empty(0, np.uint8)
            give_freed_memory_back()

    def write(self, timed: TimedFrame, info: MediaInfo) -> None:
        """Copy a frame into a free place and tell the service; waits until there is one."""
        frame = timed.frame
        if frame.nbytes > self._place_bytes:
            self._divide(frame.nbytes)
        while not self._free:
            self._free.append(self._given_back())
        start = self._free.pop(0)
        np.copyto(self._place(start, frame.shape), frame)
        height, width = frame.shape[:2]
        told = {"height": height, "width": width, "time_s": timed.time_s, "index": timed.index}
        send(self._channel, {"frame": start, "info": asdict(info)} | told)

    def _given_back(self) -> int:
        """Wait until the service needs a frame no more, and return the first byte of its place."""
        return int(receive(self._channel)[0]["free"])

    def _place(self, start: int, shape: tuple[int, ...]) -> Frame:
        """Return the pixels of a place, uint8 of a shape."""
        return self._memory[start : start + math.prod(shape)].reshape(shape)

    def _divide(self, place_bytes: int) -> None:
        """Make places of a size, in more shared memory if need be."""
        in_use = self._slots - len(self._free) if self._place_bytes else 0
        if place_bytes * self._slots > len(self._memory):
            send(self._channel, {"buffer": place_bytes * self._slots})
            descriptors: list[int] = []
            while not descriptors:  # places of the smaller memory may be given back first
                _, descriptors = receive(self._channel)
            self._memory = np.frombuffer(mmap.mmap(descriptors[0], place_bytes * self._slots), np.uint8)
            os.close(descriptors[0])
        else:
            for _ in range(in_use):
                receive(self._channel)
        self._place_bytes = place_bytes
        self._free = [slot * place_bytes for slot in range(self._slots)]


def decode(request: dict[str, Any], descriptor: int, channel: socket.socket, frames: SharedFrames) -> None:
    """Tell that this process is up, read the frames of one file and send them, then the end or the error."""
    send(channel, {"alive": True})
    limit_memory(request["source"], request["limits"]["max_pixels"])
    frames.begin(1 if request["source"] == "picture" else SLOTS)
    try:
        source = open_source(request, descriptor)
        for timed in source.frames(Progress(channel)):
            frames.write(timed, source.info)
        told = {"end": source.truncated, "reusable": _resident_bytes() < MAX_RESIDENT_BYTES}
        send(channel, told | ({"info": asdict(source.info)} if hasattr(source, "info") else {}))
    except ServiceError as error:
        send(channel, {"error": type(error).__name__, "detail": error.detail, "limit": error.limit})
    except MemoryError:  # the service ends this process; ending by itself, it could take the message along
        send(channel, {"error": "MemoryError"})
    except Disconnected:
        raise
    except Exception:
        send(channel, {"failure": traceback.format_exc()[-4000:]})


def open_source(request: dict[str, Any], descriptor: int) -> PictureSource | VideoSource:
    """Return the source that a request describes; `descriptor` is the open file."""
    limits = DecodeLimits(**request["limits"])
    if request["source"] == "picture":
        return PictureSource(open(descriptor, "rb", closefd=False), limits)
    taken = Taken(**request["taken"]) if "taken" in request else None
    return VideoSource(Path(f"/dev/fd/{descriptor}"), limits, Window(**request["window"]), taken)


def requests(channel: socket.socket) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield requests and their files until the service closes the connection."""
    while True:
        try:
            message, descriptors = receive(channel)
        except Disconnected:
            return
        if "source" in message and descriptors:  # slots of the file before may still be given back
            yield message, descriptors[0]


def begin() -> socket.socket:
    """Return the channel to the service, with which this process ends, and by nothing else."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these are the service's to handle, which may still be draining
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    cv2.setNumThreads(1)
    return socket.socket(fileno=int(sys.argv[1]))


def main() -> None:
    """Serve requests on the socket whose descriptor is the first argument; the second is the largest frame's pixels."""
    channel = begin()
    limit_process(BASE_BYTES + max(BYTES_A_PIXEL.values()) * int(sys.argv[2]))
    frames = SharedFrames(channel)
    for request, descriptor in requests(channel):
        try:
            decode(request, descriptor, channel, frames)
        finally:
            frames.end()
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
