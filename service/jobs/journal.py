"""The journal of a job: records that its attempts leave to one another on disk.

    results/ID.ATTEMPT.journal        for each record its length, 4 bytes, and as many bytes of zlib's format

Each attempt writes a file of its own, so one that has lost its job disturbs no other. Those of earlier attempts go once
the later one has all of their records that it wants; so the oldest file is the one that is whole.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_LENGTH = struct.Struct("<I")


class JobJournal:
    """The journal of one attempt. Use it in a `with` block, but from any thread."""

    def __init__(self, path: Path, earlier: Sequence[Path]) -> None:
        """Take the attempt's own file, which is made, and those of earlier attempts, the oldest first."""
        self._path = path
        self._earlier = earlier

    def __enter__(self) -> Self:
        self._file = open(self._path, "wb", opener=private)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._file.tell():
            self._path.unlink(missing_ok=True)
        with suppress(OSError):  # of a record that does not fit the disk, either
            self._file.close()

    def records(self) -> Iterator[bytes]:
        """Read the records that earlier attempts have left, up to the first one that is not whole. Raises OSError."""
        for path in self._earlier[:1]:
            with path.open("rb") as file:
                left = os.fstat(file.fileno()).st_size
                while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                    [length] = _LENGTH.unpack(head)
                    left -= _LENGTH.size + length
                    if left < 0:  # memory for a length that is damaged might not be there
                        return
                    try:
                        # A checksum is part of the format, and an end that is missing is told, too.
                        yield zlib.decompress(file.read(length))
                    except zlib.error:
                        return

    def append(self, record: bytes, *, lasting: bool = True) -> None:
        """Add a record, which is on disk before this returns unless `lasting` is False. Raises OSError."""
        content = zlib.compress(record)
        self._file.write(_LENGTH.pack(len(content)) + content)
        self._file.flush()
        if lasting:
            os.fsync(self._file.fileno())

    def take_over(self) -> None:
        """Have all records on disk, and remove the files of earlier attempts. Raises OSError."""
        if self._earlier:
            os.fsync(self._file.fileno())
        for path in self._earlier:
            path.unlink(missing_ok=True)


def private(path: str, flags: int) -> int:
    """Open a file that is readable for the service's user only, as an opener of `open`."""
    return os.open(path, flags, 0o600)
