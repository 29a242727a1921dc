"""Receives request bodies into a private file, up to a byte limit: a form with one `file`, or the raw media."""

import errno
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import Limit, MalformedRequest, StorageFull, UndecodableMedia, UnsupportedMediaType, UploadTooLarge
from service.media.decoders import DecoderPool
from service.media.limits import DecodeLimits
from service.media.sources import Source
from service.media.videos import Window
from service.scheduling.lanes import Lane

IN_MEMORY_BYTES = 2 * 1024 * 1024
"""Pictures up to this size never touch the disk."""

BLOCK_BYTES = 1024 * 1024
"""Bytes of an upload that are written together, in a thread: the event loop is not to wait for a disk."""


@dataclass(frozen=True)
class Upload:
    """The upload that a route accepts: how it is sent, where it is kept, and how its frames are read."""

    lane: Lane
    """The queue in which its analysis waits for threads and networks."""
    raw_types: tuple[str, ...]
    """Prefixes of the content types that are accepted as a raw body."""
    max_bytes: int
    """Largest body in bytes."""
    file: Callable[[], AbstractContextManager[IO[bytes]]]
    """Makes the private file for the upload; it is removed when its `with` block ends."""
    source: Callable[[IO[bytes]], Source]
    """Makes the source of the frames in that file."""


def picture_upload(directory: Path, max_bytes: int, decoders: DecoderPool, limits: DecodeLimits) -> Upload:
    """Return the upload of a picture, of which a large one is kept in `directory`."""
    return Upload(
        lane=Lane.INTERACTIVE,
        raw_types=("image/",),
        max_bytes=max_bytes,
        file=lambda: SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(directory)),
        source=lambda file: decoders.picture(file, limits),
    )


def video_upload(
    directory: Path, max_bytes: int, decoders: DecoderPool, limits: DecodeLimits, window: Window
) -> Upload:
    """Return the upload of a video, kept in `directory`, of which a window is analysed."""
    return Upload(
        lane=Lane.BULK,
        raw_types=("video/", "image/gif"),
        max_bytes=max_bytes,
        file=lambda: NamedTemporaryFile(dir=directory),
        source=lambda file: decoders.video(file, limits, window),
    )


async def receive(request: Request, into: IO[bytes], upload: Upload) -> None:
    """Write the uploaded file to `into` as it arrives, and rewind it.

    Raises UploadTooLarge, MalformedRequest, UnsupportedMediaType, UndecodableMedia (an empty file) and StorageFull.
    """
    try:
        await _write(request, into, upload.raw_types, upload.max_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("there is no disk space for the upload") from None
        raise
    if not into.tell():
        raise UndecodableMedia("the uploaded file is empty")
    into.seek(0)


class _BlockWriter:
    """Writes a file in large blocks, off the event loop; a small file is one write to memory, and needs no thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._block = bytearray()

    async def write(self, content: bytes) -> None:
        """Take the next bytes."""
        self._block += content
        if len(self._block) >= BLOCK_BYTES:
            await to_thread(self._file.write, bytes(self._block))
            self._block.clear()

    async def finish(self) -> None:
        """Write what is left."""
        if self._file.tell():
            await to_thread(self._end)
        else:
            self._end()

    def _end(self) -> None:
        self._file.write(self._block)
        self._file.flush()


async def _write(request: Request, into: IO[bytes], raw_types: tuple[str, ...], max_bytes: int) -> None:
    content_type = request.headers.get("content-type", "").lower()
    writer = _BlockWriter(into)
    if content_type.startswith("multipart/form-data"):
        # Boundaries are case-sensitive: the form reads the header as it came.
        form = _SingleFileForm(request.headers["content-type"])
        async for chunk in _limited(request, max_bytes):
            await writer.write(form.feed(chunk))
        form.finish()
    elif content_type.startswith(raw_types):
        async for chunk in _limited(request, max_bytes):
            await writer.write(chunk)
    else:
        raw = " or ".join(f"{prefix}*" if prefix.endswith("/") else prefix for prefix in raw_types)
        raise UnsupportedMediaType(f"send multipart/form-data with one file in `file`, or a raw body of type {raw}")
    await writer.finish()


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    announced, total = request.headers.get("content-length", ""), 0
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> UploadTooLarge:
    limit = Limit(name="AFFECT_MAX_UPLOAD_BYTES", value=max_bytes)
    return UploadTooLarge(f"the body is larger than {max_bytes} bytes", limit=limit)


class _SingleFileForm:
    """Extracts the one file from a multipart body that is fed in chunks; any other part is an error.

    Starlette's own form parser would keep every part, and loses an unfinished file when the body is cut off.
    """

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedRequest("the content type multipart/form-data has no boundary")
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._found: list[bytes] = []
        self._files = 0
        self._complete = False
        with _refusing_broken_forms():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_begin": self._header_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_end": self._end,
                },
            )

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes of the file in the next chunk of the body."""
        with _refusing_broken_forms():
            self._parser.write(chunk)
        content = b"".join(self._found)
        self._found.clear()
        return content

    def finish(self) -> None:
        """End the form. Raises MalformedRequest unless it was complete and had a file."""
        if not self._complete:
            raise MalformedRequest("the form is broken or incomplete")
        if not self._files:
            raise MalformedRequest("the form has no file in the field `file`")

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_begins(self) -> None:
        self._header, self._value = b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value

    def _headers_end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")[:64]
        if name != "file" or b"filename" not in options:
            raise MalformedRequest(f"the form must hold one file in the field `file`, and nothing else; found {name!r}")
        self._files += 1
        if self._files > 1:
            raise MalformedRequest("the form holds more than one file")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _end(self) -> None:
        self._complete = True


@contextmanager
def _refusing_broken_forms() -> Iterator[None]:
    try:
        yield
    except FormParserError:
        raise MalformedRequest("the form is broken or incomplete") from None
