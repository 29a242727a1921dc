"""Decoder processes as the service uses them: sources whose bytes are decoded elsewhere, and the pool they share."""

import fcntl
import math
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from threading import Event, Lock
from typing import IO, Any

import numpy as np
import structlog

from service import errors
from service.errors import Limit, NotReady, OutOfResources, ServiceError, UndecodableMedia
from service.machine import give_freed_memory_back
from service.media.limits import DecodeLimits
from service.media.messages import Disconnected, receive, send
from service.media.videos import MediaInfo, Pace, TimedFrame, Window
from service.media.worker import KEPT_BYTES, SLOTS

logger = structlog.get_logger("service")

FRAME_S = 10.0
"""Seconds in which a decoder must give or skip a frame."""

START_S = 60.0
"""Seconds in which a process that was just started must be up: it imports its libraries first, on a busy machine."""

_STOPPING = "the service is shutting down"

_LOOK_S = 0.05
"""Seconds between two looks whether a source was cancelled, or whoever reads it wants to do something else."""

_END_S = 0.2
"""Seconds in which a process that has closed its connection ends."""

_CLIENT_ERRORS = frozenset(
    {"UnsupportedMediaType", "UndecodableMedia", "NoVideoFrames", "TooManyPixels", "VideoTooLong", "InvalidParameter"}
)
"""Errors that a decoder may report; it can send any text."""

_RENDERER_ERRORS = _CLIENT_ERRORS | {"StorageFull"}
"""Errors that a renderer may report."""

_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc would give the memory of each frame back to the system, and take it again for the next.
    "MALLOC_MMAP_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
}
"""The environment of a process: nothing of the service's own, which holds keys."""

WORKER = (sys.executable, "-m", "service.media.worker")
RENDERER = (sys.executable, "-m", "service.media.renderer")


class DecoderPool:
    """Processes that decode one file each. Some are started ahead; safe to call from several threads.

    >>> decoders = DecoderPool(ready=2, max_pixels=50_000_000)
    >>> for timed in decoders.video(file, limits, Window(fps=5)).frames(Event()):
    ...     print(timed.time_s, timed.frame.shape)
    """

    def __init__(
        self,
        ready: int,
        max_pixels: int,
        *,
        frame_s: float = FRAME_S,
        start_s: float = START_S,
        command: Sequence[str] = WORKER,
        on_loss: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Take the number of processes to keep ready, and the largest frame's pixels.

        `frame_s`: seconds in which a decoder must give or skip a frame. `start_s`: seconds in which it must be up.
        `command`: the program of a process. `on_loss` is called with the reason when a process was lost: `crashed`,
        `slow` or `memory`.
        """
        self._ready = ready
        self._command = (*command, str(max_pixels))
        self._frame_s = frame_s
        self.start_s = start_s
        self._on_loss = on_loss
        self._idle: list[Decoder] = []
        self._used: set[Decoder] = set()
        self._lock = Lock()
        self._closed = False

    def start(self) -> None:
        """Start the processes that are kept ready; returns at once. Raises NotReady if none can be started."""
        with self._lock:
            while len(self._idle) < self._ready and not self._closed:
                self._idle.append(self._started())

    def picture(self, file: IO[bytes], limits: DecodeLimits) -> "IsolatedSource":
        """Return the source of a picture in an open file, which may be in memory only."""
        return IsolatedSource(self, partial(_copied, file), {"source": "picture", "limits": asdict(limits)})

    def video(self, file: IO[bytes], limits: DecodeLimits, window: Window) -> "IsolatedSource":
        """Return the source of a window of a video in an open file on disk."""
        request = {"source": "video", "limits": asdict(limits), "window": asdict(window)}
        return IsolatedSource(self, partial(_reopened, file), request)

    @property
    def frame_s(self) -> float:
        """Seconds in which a decoder must give or skip a frame."""
        return self._frame_s

    def lease(self) -> "Decoder":
        """Return a process for one file. Raises NotReady if none can be started."""
        with self._lock:
            if self._closed:
                raise NotReady(_STOPPING)
            while self._idle:
                decoder = self._idle.pop()  # its memory is warm
                if decoder.alive:
                    break
                decoder.kill()
            else:
                decoder = self._started()
            self._used.add(decoder)
        return decoder

    def give_back(self, decoder: "Decoder") -> None:
        """End the use of a process. One that is not reusable is replaced."""
        if decoder.shares_much:
            give_freed_memory_back()
        with self._lock:
            self._used.discard(decoder)
            if decoder.reusable and not self._closed and len(self._idle) < self._ready:
                decoder.trim()
                self._idle.append(decoder)
                return
        decoder.kill()
        with suppress(NotReady):
            self.start()

    def lost(self, reason: str) -> None:
        """Count a process that had to be given up."""
        logger.warning("a decoder process was lost", reason=reason)
        self._on_loss(reason)

    @property
    def closed(self) -> bool:
        """True once no process is lent any more."""
        with self._lock:
            return self._closed

    def close(self) -> None:
        """Kill all processes; sources that are being read end with NotReady."""
        with self._lock:
            self._closed = True
            decoders = [*self._idle, *self._used]
            self._idle.clear()
        for decoder in decoders:
            decoder.kill()

    def _started(self) -> "Decoder":
        try:
            return Decoder(self._command)
        except OSError as error:
            logger.error("no decoder process can be started", error=str(error))
            raise NotReady("the service cannot start a process to decode the file") from None


class RendererPool(DecoderPool):
    """Processes that decode one video each, and encode its frames again once the service has drawn on them.

    >>> renderers = RendererPool(max_pixels=50_000_000)
    >>> source = renderers.rendering(file, result, max_upload, limits, Window(), "video/mp4")
    >>> for timed in source.frames(Event()):
    ...     timed.frame[:8, :8] = 255
    """

    def __init__(self, max_pixels: int, on_loss: Callable[[str], None] = lambda reason: None) -> None:
        """See DecoderPool; none is kept ready."""
        super().__init__(0, max_pixels, command=RENDERER, on_loss=on_loss)

    def rendering(
        self,
        file: IO[bytes],
        result: IO[bytes],
        max_upload: Limit,
        limits: DecodeLimits,
        window: Window,
        media_type: str,
    ) -> "IsolatedSource":
        """Return the source of a window of a video, each of whose frames is encoded once the next one is asked for.

        What was drawn on it until then is in `result`, a file on disk, which is whole when the source ends. A frame has
        the size of the first one; its own is in `info`. max_upload: the largest upload, of which a
        result may have RESULT_OVER_UPLOAD times the bytes. media_type: one of `encoding.FORMS`.
        """
        request = {"source": "video", "limits": asdict(limits), "window": asdict(window)}
        request |= {"media_type": media_type, "max_upload": max_upload}
        return IsolatedSource(self, partial(_reopened, file), request, result)


class Decoder:
    """One decoder process, and the memory that it shares with the service."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process; raises OSError if that fails. It is asked at once, and answers when it is up."""
        ours, theirs = socket.socketpair()
        *program, max_pixels = command
        try:
            self._process = subprocess.Popen(
                [*program, str(theirs.fileno()), max_pixels],
                stdin=subprocess.PIPE,  # it ends when this does
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # where C libraries write about damaged files
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = ours
        self.up = False
        """True once it has answered."""
        self._memory: mmap.mmap | None = None
        self.reusable = False
        """True once a file was read to its end, or to an error that the process reported."""

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The status with which the process has ended, or is just about to; None while it lives."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        return self._process.poll()

    def ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Hand a file over, and perhaps one for the result. Raises Disconnected."""
        self.reusable = False
        self._channel.settimeout(None)
        send(self._channel, request, descriptors)

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next message. Raises TimeoutError after `timeout_s`, and Disconnected."""
        self._channel.settimeout(timeout_s)
        message, descriptors = receive(self._channel)
        self.up = True
        for descriptor in descriptors:  # a decoder has none to send
            os.close(descriptor)
        return message

    def share(self, size: int) -> None:
        """Give the process shared memory, instead of what it has."""
        with _anonymous_file() as file:
            os.truncate(file.fileno(), size)
            _seal_size(file.fileno())
            self._memory = mmap.mmap(file.fileno(), size)
            send(self._channel, {"memory": size}, [file.fileno()])

    @property
    def shares_much(self) -> bool:
        """True while the shared memory is so large that it is not kept for the next file."""
        return self._memory is not None and len(self._memory) > KEPT_BYTES

    def trim(self) -> None:
        """Let go of large shared memory, as the process does after each file."""
        if self.shares_much:
            self._memory = None

    def frame(self, message: dict[str, Any]) -> TimedFrame:
        """Return a view of a frame in shared memory. Raises Disconnected where the message makes no sense."""
        try:
            start, height, width = (int(message[name]) for name in ("frame", "height", "width"))
            if self._memory is None or start < 0 or min(height, width) < 1:
                raise ValueError
            pixels = np.frombuffer(self._memory, np.uint8, height * width * 3, start)
            time_s, index = float(message["time_s"]), int(message["index"])
            if not math.isfinite(time_s) or index < 0:
                raise ValueError
            return TimedFrame(pixels.reshape(height, width, 3), time_s, index)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Disconnected("a frame's message makes no sense") from None

    def free(self, start: int) -> None:
        """Let the process write where a frame was."""
        with suppress(Disconnected):  # the next answer tells
            send(self._channel, {"free": start})

    def kill(self) -> None:
        """End the process, whatever it does; may be called again."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


@dataclass
class _Patience:
    """The time in which a decoder must show that it is up, and then that it gets on."""

    since_s: float

    def renew(self) -> None:
        self.since_s = time.monotonic()

    def over(self, most_s: float) -> bool:
        return time.monotonic() - self.since_s > most_s


class IsolatedSource:
    """A Source that is decoded in a process of a DecoderPool.

    Its frames are views of shared memory, which are valid until the next frame is asked for.
    """

    info: MediaInfo
    truncated = False

    def __init__(
        self,
        decoders: DecoderPool,
        opened: Callable[[], IO[bytes]],
        request: dict[str, Any],
        result: IO[bytes] | None = None,
    ) -> None:
        """`opened` returns an open file of the source's own, which is handed to the process, as `result` is."""
        self._decoders = decoders
        self._opened = opened
        self._request = request
        self._result = result

    def go_on(self, info: MediaInfo, times_s: Iterable[float]) -> None:
        """See ResumableSource; for videos."""
        window = Window(**self._request["window"])
        pace = Pace(window.fps, window.begin_s(info))
        for time_s in times_s:
            pace.takes(time_s)
        self.info = info
        self._request["taken"] = asdict(pace.taken)

    def frames(self, cancelled: Event) -> Generator[TimedFrame | None, None, None]:
        """See Source.

        A file that crashes its decoder, needs more memory than one file may have or keeps its decoder from getting on
        is UndecodableMedia. A decoder that is not up in time, or ends before, is NotReady. Where the system ends a
        decoder, since memory is lacking, the error is OutOfResources.
        """
        decoder = self._decoders.lease()
        try:
            with self._opened() as file:
                results = [] if self._result is None else [self._result.fileno()]
                decoder.ask(self._request, [file.fileno(), *results])
            yield from self._answers(decoder, cancelled)
        except Disconnected:
            raise self._crash(decoder) from None
        except OSError as error:
            if self._decoders.closed:
                raise NotReady(_STOPPING) from None
            logger.error("a file cannot be handed to a decoder", error=error.strerror)
            raise OutOfResources("the service lacks memory or file descriptors to decode the file") from None
        finally:
            self._decoders.give_back(decoder)

    def _answers(self, decoder: Decoder, cancelled: Event) -> Generator[TimedFrame | None, None, None]:
        patience = _Patience(time.monotonic())
        while not cancelled.is_set():
            try:
                message = decoder.answer(_LOOK_S)
            except TimeoutError:
                if not decoder.up and patience.over(self._decoders.start_s):
                    self._decoders.lost("slow")
                    raise NotReady("a process to decode the file does not start") from None
                if decoder.up and patience.over(self._decoders.frame_s):
                    self._decoders.lost("slow")
                    detail = f"a frame of the file takes longer than {self._decoders.frame_s:g} s to decode"
                    raise UndecodableMedia(detail) from None
                yield None
                continue
            if "info" in message:
                self.info = _checked_info(message["info"])
            if "buffer" in message:
                decoder.share(self._checked_size(message["buffer"]))
            elif "frame" in message:
                yield decoder.frame(message)
                decoder.free(message["frame"])
            elif "end" in message:
                self.truncated = bool(message["end"])
                decoder.reusable = bool(message.get("reusable"))
                return
            elif "error" in message or "failure" in message:
                decoder.reusable = str(message.get("error")) in _CLIENT_ERRORS
                raise self._error(message)
            else:
                yield None
            patience.renew()

    def _checked_size(self, size: object) -> int:
        """Return the bytes of shared memory asked for. Raises Disconnected for more than frames within the limits."""
        largest = SLOTS * 3 * int(self._request["limits"]["max_pixels"])
        if not isinstance(size, int) or not 0 < size <= largest:
            raise Disconnected("a frame is larger than the limit")
        return size

    def _error(self, message: dict[str, Any]) -> ServiceError:
        """Return the error that a decoder reports."""
        name = str(message.get("error"))
        if name in (_CLIENT_ERRORS if self._result is None else _RENDERER_ERRORS):
            kind: type[ServiceError] = getattr(errors, name)
            return kind(str(message.get("detail")), limit=_checked_limit(message.get("limit")))
        if name == "MemoryError":
            # The process reached the bound of its memory, and would with this file at any time.
            self._decoders.lost("memory")
            return UndecodableMedia("the file needs more memory to decode than one file may have")
        logger.warning("a decoder failed on a file", trace=str(message.get("failure")))
        return UndecodableMedia("the file could not be decoded")

    def _crash(self, decoder: Decoder) -> ServiceError:
        if self._decoders.closed:
            return NotReady(_STOPPING)
        if decoder.returncode == -signal.SIGKILL:  # the system ends it where memory runs out
            self._decoders.lost("memory")
            return OutOfResources("there is not enough memory to decode the file")
        self._decoders.lost("crashed")
        if decoder.returncode == 0:
            return NotReady("the decoder ended")
        if not decoder.up:
            return NotReady("a process to decode the file does not start")
        return UndecodableMedia("the decoder broke down over the file")


def _checked_info(info: object) -> MediaInfo:
    """Return what a decoder tells of a file. Raises Disconnected where it makes no sense."""
    names = {field.name for field in fields(MediaInfo)}
    if not isinstance(info, dict) or not info.keys() <= names:
        raise Disconnected("what is told of the file makes no sense")
    numbers = [value for value in info.values() if value is not None]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
        raise Disconnected("what is told of the file makes no sense")
    try:
        return MediaInfo(**info)
    except TypeError:
        raise Disconnected("what is told of the file makes no sense") from None


def _checked_limit(limit: object) -> Limit | None:
    """Return the limit that a decoder reports as exceeded; None where it reports none, or nonsense."""
    if not isinstance(limit, dict):
        return None
    name, value = limit.get("name"), limit.get("value")
    return Limit(name=name, value=value) if isinstance(name, str) and isinstance(value, int | float) else None


def _copied(file: IO[bytes]) -> IO[bytes]:
    copy = _anonymous_file()
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


def _reopened(file: IO[bytes]) -> IO[bytes]:
    """Return the same file with a position of its own, since several processes may read it."""
    return os.fdopen(os.open(f"/dev/fd/{file.fileno()}", os.O_RDONLY), "rb")


def _seal_size(descriptor: int) -> None:
    """Keep a decoder from shrinking shared memory, which would end the service when it looks there."""
    if hasattr(os, "memfd_create"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def _anonymous_file() -> IO[bytes]:
    """Return a new file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("affect", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    return tempfile.TemporaryFile()
