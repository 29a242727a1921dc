"""Results on disk that are whole or not there: written under another name, and renamed when they are on the disk."""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

SUFFIX = ".affect-partial"
"""Ends the names of files that are being written."""

LONGEST_NAME = 255
"""Bytes that a file's name may have on the usual file systems."""


def fitting_name(name: str, ending: str) -> str:
    """Return a name with an ending; one that would be too long is cut, and told from others by a hash of all of it."""
    if len(os.fsencode(name + ending)) <= LONGEST_NAME:
        return name + ending
    content = os.fsencode(name)
    ending = f"~{hashlib.sha256(content).hexdigest()[:16]}{ending}"
    return content[: LONGEST_NAME - len(os.fsencode(ending))].decode(errors="ignore") + ending


class PartialFile:
    """A file that is being written; it gets its name by `commit`, and a block that ends before removes it."""

    def __init__(self, path: Path) -> None:
        """Begin the file beside `path`, in whose place it will be. Raises OSError."""
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self.path = path
        self._partial = path.with_name(fitting_name(f".{path.name}", SUFFIX))
        with _about(path if path.parent.is_dir() else path.parent):
            self._file = self._partial.open("wb")

    @property
    def stream(self) -> IO[bytes]:
        """The file itself, for a library that writes into one."""
        return self._file

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write pieces as they come."""
        for piece in pieces:
            with _about(self.path):
                self._file.write(piece)

    def commit(self) -> None:
        """Have the file on disk, then under its name; a former file of that name is replaced."""
        with _about(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove the file, if it has not been committed."""
        with suppress(OSError):  # a disk that is full takes the rest of the file no more than what came before
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def require_another(out: Path, source: Path) -> None:
    """Raise ValueError where a result would take the place of the file that it is made from."""
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the file that the result is made from; give the result another name")


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file; where the pieces end in an exception, it is as it was before."""
    with PartialFile(path) as file:
        file.write(pieces)
        file.commit()


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left in a folder and those below it."""
    for path in folder.rglob(f".*{SUFFIX}"):
        path.unlink(missing_ok=True)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name this path in an OSError, in place of one that nobody has heard of."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Have the names of a folder on disk, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
