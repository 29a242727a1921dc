"""Receives request bodies into private files, up to a byte limit: a form with one `file`, or the raw media.

A form may hold a second file, `baseline`, where a route accepts it.
"""

from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import Limit, MalformedRequest, UndecodableMedia, UnsupportedMediaType, UploadTooLarge
from service.http.folder import telling_what_lacks
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
    max_bytes: Limit
    """Largest body in bytes, as errors name it."""
    file: Callable[[], AbstractContextManager[IO[bytes]]]
    """Makes a private file for the upload; it is removed when its `with` block ends."""
    source: Callable[[IO[bytes]], Source]
    """Makes the source of the frames in that file."""
    with_baseline: bool = False
    """True if a form may hold a second file of the kind, `baseline`."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the files that a form may hold; the first is required."""
        return ("file", "baseline") if self.with_baseline else ("file",)

    @contextmanager
    def files(self) -> Iterator[Mapping[str, IO[bytes]]]:
        """Make a private file for each part, by its name. Raises StorageFull or OutOfResources at its beginning."""
        with ExitStack() as stack:
            with telling_what_lacks():
                made = {name: stack.enter_context(self.file()) for name in self.parts}
            yield made


def picture_upload(directory: Path, max_bytes: Limit, decoders: DecoderPool, limits: DecodeLimits) -> Upload:
    """Return the upload of a picture, and perhaps a baseline; large ones are kept in `directory`."""
    return Upload(
        lane=Lane.INTERACTIVE,
        raw_types=("image/",),
        max_bytes=max_bytes,
        file=lambda: SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(directory)),
        source=lambda file: decoders.picture(file, limits),
        with_baseline=True,
    )


def video_upload(
    directory: Path, max_bytes: Limit, decoders: DecoderPool, limits: DecodeLimits, window: Window
) -> Upload:
    """Return the upload of a video, kept in `directory`, of which a window is analysed."""
    return Upload(
        lane=Lane.BULK,
        raw_types=("video/", "image/gif"),
        max_bytes=max_bytes,
        file=lambda: TemporaryFile(dir=directory),
        source=lambda file: decoders.video(file, limits, window),
    )


async def receive(request: Request, into: Mapping[str, IO[bytes]], upload: Upload) -> frozenset[str]:
    """Write the uploaded files to those of `into` as they arrive, rewind them, and return the names of those received.

    Raises UploadTooLarge, MalformedRequest, UnsupportedMediaType, UndecodableMedia (an empty file), StorageFull and
    OutOfResources.
    """
    with telling_what_lacks():
        received = await _write(request, into, upload.raw_types, upload.max_bytes)
    for name in sorted(received):
        if not into[name].tell():
            raise UndecodableMedia("the uploaded file is empty" if name == "file" else f"{name}: the file is empty")
        into[name].seek(0)
    return received


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


async def _write(
    request: Request, into: Mapping[str, IO[bytes]], raw_types: tuple[str, ...], max_bytes: Limit
) -> frozenset[str]:
    content_type = request.headers.get("content-type", "").lower()
    writers = {name: _BlockWriter(file) for name, file in into.items()}
    if content_type.startswith("multipart/form-data"):
        # Boundaries are case-sensitive: the form reads the header as it came.
        form = _FileForm(request.headers["content-type"], tuple(into))
        async for chunk in _limited(request, max_bytes):
            for name, content in form.feed(chunk):
                await writers[name].write(content)
        received = form.finish()
    elif content_type.startswith(raw_types):
        async for chunk in _limited(request, max_bytes):
            await writers["file"].write(chunk)
        received = frozenset({"file"})
    else:
        for kind, route in (("video/", "/analyze/video"), ("image/", "/analyze/frame")):
            if content_type.startswith(kind):
                raise UnsupportedMediaType(f"the content type says that this is a {kind[:-1]}: POST {route}")
        raw = " or ".join(f"{prefix}*" if prefix.endswith("/") else prefix for prefix in raw_types)
        raise UnsupportedMediaType(f"send multipart/form-data with one file in `file`, or a raw body of type {raw}")
    for writer in writers.values():
        await writer.finish()
    return received


async def _limited(request: Request, max_bytes: Limit) -> AsyncIterator[bytes]:
    announced, total = request.headers.get("content-length", ""), 0
    if announced.isdigit() and int(announced) > max_bytes["value"]:
        raise _too_large(max_bytes)
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes["value"]:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(limit: Limit) -> UploadTooLarge:
    return UploadTooLarge(f"the body is larger than {limit['value']} bytes", limit=limit)


class _FileForm:
    """Extracts the files of a multipart body that is fed in chunks, at most one of each name; other parts are errors.

    Starlette's own form parser would keep every part, and loses an unfinished file when the body is cut off.
    """

    def __init__(self, content_type: str, names: Collection[str]) -> None:
        """Take the names of the files that the form may hold; `file` is required."""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedRequest("the content type multipart/form-data has no boundary")
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._names = names
        self._name = ""
        self._found: list[tuple[str, bytes]] = []
        self._received: set[str] = set()
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

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """Return the bytes of files in the next chunk of the body, in its order, each with the file's name."""
        self._found = []
        with _refusing_broken_forms():
            self._parser.write(chunk)
        return self._found

    def finish(self) -> frozenset[str]:
        """End the form, and return its files' names. Raises MalformedRequest unless it was complete and had `file`."""
        if not self._complete:
            raise MalformedRequest("the form is broken or incomplete")
        if "file" not in self._received:
            raise MalformedRequest("the form has no part named file; send the picture or the video in one")
        return frozenset(self._received)

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
        if name not in self._names:
            more = ", perhaps one named baseline" if "baseline" in self._names else ""
            remedy = "; videos have the parameters baseline_s and baseline=auto instead" if name == "baseline" else ""
            raise MalformedRequest(
                f"the form must have one part named file{more}, and no other; found {name!r}{remedy}"
            )
        if b"filename" not in options:
            raise MalformedRequest(_without_filename(name, self._disposition))
        if name in self._received:
            raise MalformedRequest(f"the form holds more than one file in the field `{name}`")
        self._received.add(name)
        self._name = name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append((self._name, data[start:end]))

    def _end(self) -> None:
        self._complete = True


def _without_filename(name: str, disposition: bytes) -> str:
    """Return the sentence about a part whose Content-Disposition has no `filename`."""
    if b"filename*" in disposition.lower():
        return f"the part named {name} has a file name as filename*, which forms must not use (RFC 7578): send filename"
    return f"the part named {name} is a text and no file; forgot @? (curl -F {name}=@photo.jpg)"


@contextmanager
def _refusing_broken_forms() -> Iterator[None]:
    try:
        yield
    except FormParserError:
        raise MalformedRequest("the form is broken or incomplete") from None
