"""The last pieces of an answer, which threads make."""

import asyncio
import threading
from collections.abc import Iterator

from service.output.sink import made_in_threads


def test_pieces_are_made_one_by_one_and_not_in_the_event_loop() -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"first", b"", b"last"):
            made.append(threading.get_ident())
            yield piece

    async def taken() -> list[tuple[bytes, int]]:
        return [(piece, len(made)) async for piece in made_in_threads(pieces())]

    assert asyncio.run(taken()) == [(b"first", 1), (b"", 2), (b"last", 3)]
    assert threading.get_ident() not in made
