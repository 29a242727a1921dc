"""Sources of frames for an analysis: a picture and a video file, behind one interface."""

from collections.abc import Generator, Iterable
from pathlib import Path
from threading import Event
from typing import IO, Protocol

from service.media.images import decode_image
from service.media.limits import DecodeLimits
from service.media.videos import MediaInfo, Taken, TimedFrame, Window, open_video


class Source(Protocol):
    """A picture or a video file whose frames are read once, front to back."""

    info: MediaInfo
    """Known from the first frame on."""
    truncated: bool
    """True if the file ended early because it is damaged; known after the last frame."""

    def frames(self, cancelled: Event) -> Generator[TimedFrame | None, None, None]:
        """Open the source and yield its frames one by one; ends before the next frame once `cancelled` is set.

        A source that is decoded elsewhere yields None now and then while a frame is not ready, so that whoever waits
        may do something else. Closing the generator releases the decoder. Raises the ServiceErrors of decoding.
        """
        ...


class ResumableSource(Source, Protocol):
    """A source that can be read on from where an earlier reading has come to."""

    def go_on(self, info: MediaInfo, times_s: Iterable[float]) -> None:
        """Leave out the frames at these times, which an earlier reading gave; for use before the first frame.

        `info` is what that reading told. The times are those of all its frames, in their order.
        """
        ...


class PictureSource:
    """A source of one frame, at time 0."""

    info: MediaInfo
    truncated = False

    def __init__(self, file: IO[bytes], limits: DecodeLimits) -> None:
        self._file = file
        self._limits = limits

    def frames(self, cancelled: Event) -> Generator[TimedFrame, None, None]:
        """See Source; never None."""
        frame = decode_image(self._file.read(), self._limits)
        height, width = frame.shape[:2]
        self.info = MediaInfo(width, height)
        yield TimedFrame(frame, time_s=0.0, index=0)


class VideoSource:
    """The frames of a window of a video file."""

    info: MediaInfo
    truncated = False

    def __init__(self, path: Path, limits: DecodeLimits, window: Window, taken: Taken | None = None) -> None:
        """`taken`: the frames that an earlier reading has taken, and this one leaves out."""
        self._path = path
        self._limits = limits
        self._window = window
        self._taken = taken

    def frames(self, cancelled: Event) -> Generator[TimedFrame, None, None]:
        """See Source; never None."""
        with open_video(self._path, self._limits, self._window, cancelled, self._taken) as video:
            self.info = video.info
            yield from video
            self.truncated = video.truncated
