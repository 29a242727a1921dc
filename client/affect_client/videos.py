"""Answers about videos as they come: frame by frame, or as the bytes of the service's own document."""

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx2

from affect_client.closeable import Closeable
from affect_client.connection import body, understanding
from affect_client.errors import AffectError, problem_error
from affect_client.faces import Frame
from affect_client.progress import Reporting, reporting
from affect_client.results import Model, Progress, Video, VideoSummary, frames_to_pandas

if TYPE_CHECKING:
    import pandas as pd

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"


class VideoStream(Closeable, Iterator[Frame]):
    """The frames of a video, each as soon as the service has analysed it; leaving the `with` block stops its work.

    with affect.video("clip.mp4", fps=5, progress=True) as frames:
        for frame in frames:
            print(frame.time_s, [face.valence for face in frame.faces])
    print(frames.summary)

    Iterating raises AffectError where the analysis fails after it has begun.
    """

    def __init__(self, response: httpx2.Response, progress: Reporting = False) -> None:
        """Take an NDJSON answer, and wait for its first line. Raises AffectError."""
        self._objects = _objects(response)
        self._frames = self._read(progress)
        self._summary: VideoSummary | None = None
        try:
            with understanding():
                head = next(self._objects)
                self.request_id: str = head["request_id"]
                self.model = Model.of(head["model"])
                self.video = Video.of(head["video"])
                self.notes: tuple[str, ...] = tuple(head.get("notes", ()))
                """Sentences on bundles that get frames at another rate than they were evaluated with."""
        except BaseException:
            self.close()
            raise

    def __next__(self) -> Frame:
        return next(self._frames)

    @property
    def summary(self) -> VideoSummary:
        """The end of the answer. Raises ValueError before the last frame has been read."""
        if self._summary is None:
            raise ValueError("the summary comes after the last frame, which has not been read")
        return self._summary

    def to_pandas(self) -> "pd.DataFrame":
        """Read the frames that are left, and return them as pandas reads the service's CSV; needs pandas."""
        return frames_to_pandas(self, self.model)

    def close(self) -> None:
        """Leave; the service stops its work."""
        self._frames.close()
        self._objects.close()

    def _read(self, progress: Reporting) -> Generator[Frame, None, None]:
        with closing(self._objects), reporting(progress) as report:
            for told in self._understood():
                if isinstance(told, Frame):
                    yield told
                else:
                    report(told)

    def _understood(self) -> Iterator[Frame | Progress]:
        with understanding():
            for values in self._objects:
                match values["type"]:
                    case "frame":
                        yield Frame.of(values)
                    case "progress":
                        yield Progress(values["done_s"], values.get("duration_s"))
                    case "summary":
                        self._summary = VideoSummary.of(values)


class VideoAnswer(Iterator[bytes]):
    """The service's own document about a video, piece by piece as it comes.

    Iterating raises AffectError where the analysis fails, after the piece that tells of it: keep nothing then.
    """

    def __init__(self, response: httpx2.Response, media_type: str) -> None:
        """Raises AffectError for an answer of another type, as a proxy may have: a table has no end to know it by."""
        kind = response.headers.get("content-type", media_type).partition(";")[0].strip().lower()
        if kind != media_type.lower():
            response.close()
            raise AffectError(f"the answer has the type {kind!r}, and not {media_type}", "unexpected_answer")
        self.request_id: str | None = response.headers.get("x-request-id")
        self.truncated = False
        """After the last piece, whether a CSV or an NDJSON says that the file is damaged and ended early."""
        self._pieces = self._read(response, media_type)

    def __next__(self) -> bytes:
        return next(self._pieces)

    def _read(self, response: httpx2.Response, media_type: str) -> Iterator[bytes]:
        last = b""  # the last line, as far as it has come
        with closing(body(response)) as pieces:
            for piece in pieces:
                if media_type in _ENDINGS:
                    lines = last + piece
                    last = lines[lines.rstrip(b"\n").rfind(b"\n") + 1 :]
                yield piece
        if media_type in _ENDINGS:
            with understanding():
                self.truncated = _ENDINGS[media_type](last)


def _objects(response: httpx2.Response) -> Generator[dict[str, Any], None, None]:
    """Return the objects of an NDJSON answer up to its summary. Raises AffectError where it has no such end."""
    with closing(body(response)) as pieces, understanding():
        for line in _lines(pieces):
            values = dict(json.loads(line))
            if values["type"] == "error":
                raise problem_error(values)
            yield values
            if values["type"] == "summary":
                return
    raise _unfinished()


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _truncated_csv(line: bytes) -> bool:
    """Return True if the last line of a CSV says that the file was damaged. Raises AffectError for its problem."""
    if line.startswith(b"# error:"):
        raise problem_error(json.loads(line.removeprefix(b"# error:")))
    return line.startswith(b"# truncated:")


def _truncated_ndjson(line: bytes) -> bool:
    """Return the summary's `truncated`. Raises AffectError where the last line is another."""
    if not line.endswith(b"\n"):
        raise _unfinished()
    values = json.loads(line)
    if values["type"] == "error":
        raise problem_error(values)
    if values["type"] != "summary":
        raise _unfinished()
    return bool(values["truncated"])


_ENDINGS = {CSV: _truncated_csv, NDJSON: _truncated_ndjson}
"""What looks at the last line of an answer, by its media type."""


def _unfinished() -> AffectError:
    return AffectError("the answer ended before its last line", "connection_lost")
