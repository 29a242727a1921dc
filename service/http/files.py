"""Files as answers: whole, or the range of bytes that a client asks for, as players do that seek in a video."""

import os
import re
from asyncio import to_thread
from typing import IO

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from service.errors import RangeNotSatisfiable
from service.http.middleware import is_head
from service.http.uploads import BLOCK_BYTES

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII | re.IGNORECASE)

_MOST_DIGITS = 1000
"""Python reads a few thousand; no file needs more than 19."""


def asked_range(request: Request, size: int, etag: str) -> range | None:
    """Return the bytes of a file that a request asks for; None for all of them.

    One range is given. A header with several, or with none that can be read, is ignored, and so is one of a client that
    knows the file by another tag (RFC 9110, sections 13.1.5 and 14.2). Raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or is_head(request.scope) or request.headers.get("if-range", etag) != etag:
        return None
    first, last = (None if digits == "" else _position(digits) for digits in found.groups())
    if first is None:
        if last is None:
            return None
        start, stop = max(0, size - last), size
    else:
        if last is not None and last < first:
            return None
        start, stop = first, size if last is None else min(size, last + 1)
    if start >= stop:
        raise RangeNotSatisfiable(f"the file has {size} bytes", size=size)
    return range(start, stop)


def _position(digits: str) -> int:
    """Return a position in a file, or one beyond every file where it has more digits than Python would read."""
    return int(digits.lstrip("0")[:_MOST_DIGITS] or 0)


class FileAnswer(Response):
    """Sends a file, or a range of its bytes, block by block, and closes it; for HEAD, only its size."""

    def __init__(self, request: Request, file: IO[bytes], media_type: str, etag: str) -> None:
        """`etag`: a tag of the file's bytes, in quotes, which no others have. Raises RangeNotSatisfiable."""
        size = os.fstat(file.fileno()).st_size
        asked = asked_range(request, size, etag)
        headers = {"Accept-Ranges": "bytes", "ETag": etag}
        if asked is not None:
            headers["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{size}"
        self._bytes = range(size) if asked is None else asked
        self.status_code = 200 if asked is None else 206
        self.media_type = media_type
        self.background = None
        self.init_headers(headers | {"Content-Length": str(len(self._bytes))})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if is_head(scope) else len(self._bytes)
            file.seek(self._bytes.start)
            while left and (block := await to_thread(file.read, min(left, BLOCK_BYTES))):
                left -= len(block)
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
