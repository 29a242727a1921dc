"""Uploads on their way into a file: whole, in large blocks, and not in the event loop where they are large."""

import asyncio
import io
import threading

import pytest
from fastapi import Request

from service.errors import Limit
from service.http.uploads import BLOCK_BYTES, Upload, receive
from service.scheduling.lanes import Lane


class NotedFile(io.BytesIO):
    """Notes the size of each write, and whether the event loop's thread made it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[int, bool]] = []
        self.loops_thread = threading.get_ident()

    def write(self, content: bytes) -> int:
        self.writes.append((len(content), threading.get_ident() == self.loops_thread))
        return super().write(bytes(content))


def received(chunks: list[bytes]) -> NotedFile:
    """A raw body that comes in these chunks, as it was written."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def next_message() -> dict:
        return messages.pop(0)

    file = NotedFile()
    request = Request({"type": "http", "headers": [(b"content-type", b"image/png")]}, next_message)
    upload = Upload(
        Lane.INTERACTIVE,
        ("image/",),
        Limit(name="AFFECT_MAX_UPLOAD_BYTES", value=10 * BLOCK_BYTES),
        lambda: file,
        lambda _: None,
    )
    asyncio.run(receive(request, {"file": file}, upload))
    return file


@pytest.mark.parametrize("size", [1000, BLOCK_BYTES // 3, 2 * BLOCK_BYTES + 1])
def test_a_large_upload_is_written_in_blocks_by_another_thread(size: int) -> None:
    content = bytes(range(256)) * (3 * BLOCK_BYTES // 256) + b"the end"
    file = received([content[begin : begin + size] for begin in range(0, len(content), size)])
    assert file.read() == content
    assert all(written >= BLOCK_BYTES for written, _ in file.writes[:-1])
    assert not any(in_loop for _, in_loop in file.writes)


def test_a_small_upload_is_one_write() -> None:
    file = received([b"a", b"b", b"c"])
    assert file.read() == b"abc"
    assert file.writes == [(3, True)]
