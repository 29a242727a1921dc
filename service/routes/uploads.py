"""Request bodies -> private temporary files under a byte limit: multipart with one `file`, or the raw media."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import BinaryIO, cast

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import Limit, MalformedRequest, UnsupportedMediaType, UploadTooLarge

_IN_MEMORY_BYTES = 1024 * 1024


@asynccontextmanager
async def received(request: Request, raw_types: tuple[str, ...], max_bytes: int) -> AsyncIterator[BinaryIO]:
    """The uploaded file, read from its start; it is deleted on leaving.

    `raw_types` are prefixes of the content types taken as a raw body. Raises UploadTooLarge, MalformedRequest and
    UnsupportedMediaType.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    content_type = request.headers.get("content-type", "").lower()
    if content_type.startswith("multipart/form-data"):
        file = await _from_multipart(request, max_bytes)
    elif content_type.startswith(raw_types):
        file = await _from_body(request, max_bytes)
    else:
        raise UnsupportedMediaType(
            f"send multipart/form-data with one `file`, or a raw body of {'* or '.join(raw_types)}*"
        )
    with file:
        file.seek(0)
        yield file


@asynccontextmanager
async def saved(file: BinaryIO, directory: Path) -> AsyncIterator[Path]:
    """The upload under a name, for decoders that need one: a file in `directory` that is deleted on leaving."""
    with NamedTemporaryFile(dir=directory) as named:
        await asyncio.to_thread(shutil.copyfileobj, file, named, _IN_MEMORY_BYTES)
        await asyncio.to_thread(named.flush)
        yield Path(named.name)


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


async def _from_body(request: Request, max_bytes: int) -> BinaryIO:
    file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        async for chunk in _limited(request, max_bytes):
            await asyncio.to_thread(file.write, chunk)
    except BaseException:
        file.close()
        raise
    return cast("BinaryIO", file)


async def _from_multipart(request: Request, max_bytes: int) -> BinaryIO:
    # A form field beside the file is refused as well: it would be a parameter that nobody reads.
    parser = MultiPartParser(request.headers, _limited(request, max_bytes), max_files=1, max_fields=0)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedRequest(f"{error.message} The form must hold exactly one file, in the field `file`.") from None
    except (ValueError, KeyError):  # python-multipart's own complaints about headers and boundaries
        raise MalformedRequest("the multipart body is broken") from None
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        await form.close()
        raise MalformedRequest("the form has no file in the field `file`")
    return upload.file


def _too_large(max_bytes: int) -> UploadTooLarge:
    limit = Limit(name="AFFECT_MAX_UPLOAD_BYTES", value=max_bytes)
    return UploadTooLarge(f"the body is larger than {max_bytes} bytes", limit=limit)
