"""The client: what can be asked of a running service."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import httpx2

from affect_client.closeable import Closeable
from affect_client.connection import Connection, Media, Request, RetryPolicy, understanding
from affect_client.files import require_another, write_whole
from affect_client.jobs import Job
from affect_client.live import LiveStream
from affect_client.numbers import TIMEOUT_S, check_options
from affect_client.progress import Reporting
from affect_client.results import Models, Picture
from affect_client.videos import CSV, JSON, NDJSON, VideoAnswer, VideoStream

_MEDIA_TYPES = {".json": JSON, ".ndjson": NDJSON}
"""Endings of files that are no CSV -> the document in them."""


class FrameOptions(TypedDict, total=False):
    """Parameters of POST /analyze/frame; the service has the defaults, and refuses what it does not know."""

    max_faces: int
    """At most this many faces, 1 to 64: the largest. Default 16."""
    min_confidence: float
    """Lowest detection confidence, 0 to 1. Default 0.6."""


class VideoOptions(FrameOptions, total=False):
    """Parameters of POST /analyze/video."""

    fps: float
    """Analysed frames a second, at most the source's. `Models.video_fps` is the default."""
    start_s: float
    """Start of the analysed part in seconds."""
    end_s: float
    """Its end."""
    temporal: Literal["auto", "off"]
    """`off`: only bundles without memory."""
    smoothing: Literal["none", "causal", "offline"]
    """Smoothing of each track over time."""
    columns: Literal["native", "openface", "fex"]
    """Columns of a CSV; refused for other answers."""
    baseline_s: float
    """Seconds from the first face of each track on in which the person is at rest; later faces carry `change`."""
    baseline: Literal["auto"]
    """Each face carries `change` against its whole track; for JSON documents only."""
    boxes: Literal["on", "off"]
    """`on` draws the analysis on an annotated video; refused for other answers."""
    blur: Literal["faces", "none"]
    """`faces` hides all faces of an annotated video; refused for other answers."""


class LiveOptions(FrameOptions, total=False):
    """Parameters of GET /live."""

    temporal: Literal["auto", "off"]
    """`off`: only bundles without memory."""
    smoothing: Literal["none", "causal"]
    """Smoothing of each track over time."""


class Affect(Closeable):
    """A client of the facial affect service, which threads may share.

    with Affect("http://127.0.0.1:8000") as affect:
        picture = affect.frame("face.jpg")
        print(picture.faces[0].expression)

    Pictures and videos are paths, or bytes; files are sent from the disk without being read into memory. Every method
    raises AffectError where the service does not answer with a result, OSError for a file that cannot be read, and
    ValueError for a number that is out of range.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout_s: float = 900.0,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make no connection yet. Raises ValueError for a wrong address, a key that no header may have, or wrong times.

        Args:
            url: address of the service, with the path of a proxy if it has one.
            key: API key, where the service asks for one.
            timeout_s: longest silence of the service, in seconds, above 0 and at most 1e9. A JSON document of a video
                comes at its end only.
            deadline_s: seconds that the service gets for an answer, above 0 and at most 1e9; by default its own limit
                counts.
            retry: how often a request is sent again, by default RetryPolicy().
            transport: sends requests in place of a network, for tests.
            sleep: waits for seconds, between tries and between questions about a job.
        """
        self._connection = Connection(
            url, key, timeout_s=timeout_s, retry=retry or RetryPolicy(), transport=transport, sleep=sleep
        )
        if deadline_s is not None:
            TIMEOUT_S.check("deadline_s", deadline_s)
        self._headers = {} if deadline_s is None else {"X-Request-Timeout-Ms": str(max(1, round(1000 * deadline_s)))}

    def frame(self, picture: Media, *, baseline: Media | None = None, **options: Unpack[FrameOptions]) -> Picture:
        """Return the faces of a picture; `baseline` is one of the same person at rest."""
        document = self.frame_document(picture, baseline=baseline, **options)
        with understanding():
            return Picture.of(document)

    def frame_document(
        self, picture: Media, *, baseline: Media | None = None, **options: Unpack[FrameOptions]
    ) -> dict[str, Any]:
        """Return the service's own document about a picture."""
        check_options(options)
        media = {"file": picture} | ({} if baseline is None else {"baseline": baseline})
        return self._connection.document(Request("POST", "/analyze/frame", options, self._headers, media))

    def video(self, video: Media, *, progress: Reporting = False, **options: Unpack[VideoOptions]) -> VideoStream:
        """Return the frames of a video as they come, with a bar (`progress=True`) or a function that is told."""
        return VideoStream(self._connection.send(self._video_request(video, NDJSON, options)), progress)

    def video_answer(self, video: Media, media_type: str = CSV, **options: Unpack[VideoOptions]) -> VideoAnswer:
        """Return the service's own document about a video: CSV, `application/x-ndjson` or `application/json`."""
        return VideoAnswer(self._connection.send(self._video_request(video, media_type, options)), media_type)

    def save_video(
        self, video: Media, path: str | os.PathLike[str], media_type: str | None = None, **options: Unpack[VideoOptions]
    ) -> None:
        """Write that document to a file, which is whole or not there. Raises ValueError where it is the video itself.

        Without a `media_type` the file's name decides: `.json` and `.ndjson` are these, all others CSV.
        """
        if isinstance(video, str | os.PathLike):
            require_another(Path(path), Path(video))
        by_name = _MEDIA_TYPES.get(Path(path).suffix.lower(), CSV)
        write_whole(Path(path), self.video_answer(video, media_type or by_name, **options))

    def job(self, video: Media, media_type: str = "application/json", **options: Unpack[VideoOptions]) -> Job:
        """Upload a video, and return the job that analyses it; the job goes on without this client.

        media_type: of its result; `video/mp4` and `video/webm` are the video with its analysis drawn on it.
        """
        # With the key, an upload that is sent again after its answer was lost makes no second job.
        headers = {"Prefer": "respond-async", "Idempotency-Key": uuid.uuid4().hex}
        response = self._connection.send(self._video_request(video, media_type, options, headers))
        with closing(response), understanding():
            return self.find_job(response.headers["location"].rpartition("/")[2])

    def live(self, pictures: Iterable[bytes], **options: Unpack[LiveOptions]) -> LiveStream:
        """Return answers to pictures as they come, such as a camera's; a thread sends them at their pace.

        Of pictures that come faster than the service analyses them the newest are taken. Raises MissingExtra without
        the package websockets.
        """
        check_options(options)
        return LiveStream(self._connection, pictures, options)

    def find_job(self, job_id: str) -> Job:
        """Return a job by its id, without asking whether it is there."""
        return Job(self._connection, job_id)

    def models(self) -> Models:
        """Return the loaded bundles and the limits in force."""
        document = self._connection.document(Request("GET", "/models"))
        with understanding():
            return Models.of(document)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def _video_request(
        self, video: Media, media_type: str, options: VideoOptions, headers: Mapping[str, str] | None = None
    ) -> Request:
        check_options(options)
        accepted = {"Accept": media_type, **self._headers, **(headers or {})}
        return Request("POST", "/analyze/video", options, accepted, {"file": video})
