"""A folder of results and its manifest, which are true at any moment: also after the process was killed.

A result is written under another name, brought to the disk and renamed, and only then its line is appended to the
manifest. So a line that says `done` has its result, and a result without a line is made again.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

from affect_client.closeable import Closeable
from affect_client.files import PartialFile, remove_partial_files

try:
    import fcntl
except ImportError:  # Windows, where two commands on one folder are not kept apart
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.jsonl"


class FolderInUse(Exception):
    """Another process writes results into the folder."""


class Stopped(Exception):
    """Nothing more is written into the folder."""


@dataclass(frozen=True)
class Origin:
    """The inputs of a result; where nothing of it has changed, the result need not be made again."""

    sha256: str
    """Of the file."""
    options: Mapping[str, Any]
    """Format of the result and parameters of the request."""
    model: Mapping[str, Any]
    """Detector, and the bundle of each task, with versions and hashes."""


@dataclass(frozen=True)
class Entry:
    """A line of the manifest; of several lines about one result the last one counts."""

    file: str
    """Path of the file as it was found."""
    result: str
    """Path of the result in the folder, with slashes."""
    state: Literal["done", "failed"]
    finished_at: str
    """Date and time in UTC."""
    origin: Origin
    truncated: bool = False
    """Whether the file is damaged and ended early, so that the result is of its first part."""
    request_id: str | None = None
    error: Mapping[str, Any] | None = None
    """`code`, `status` and `detail` of what failed."""

    def line(self) -> bytes:
        """Return the entry as a JSON object and the end of its line."""
        values = asdict(self)
        return json.dumps(values | values.pop("origin")).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Self:
        """Return the entry of a line. Raises ValueError, KeyError or TypeError where it is none."""
        values = json.loads(line)
        origin = Origin(*(values.pop(name) for name in ("sha256", "options", "model")))
        return cls(**values, origin=origin)


class ResultFolder(Closeable):
    """Results of one command, in a folder that no other may write to meanwhile; threads may share it."""

    def __init__(self, path: Path) -> None:
        """Make or open the folder, and remove what a killed process left half-written.

        Raises FolderInUse, OSError, and ValueError where its manifest is something else.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._stopped = False
        self._writing: set[PartialFile] = set()
        self._manifest = (path / MANIFEST).open("a+b")
        try:
            _lock_file(self._manifest, path)
            self._entries = {entry.result: entry for entry in _whole_entries(self._manifest)}
            remove_partial_files(path)
        except BaseException:
            self._manifest.close()
            raise

    def holds(self, result: str, origin: Origin) -> bool:
        """Return True if a result is there and was made from the same."""
        entry = self._entries.get(result)
        is_done = entry is not None and entry.state == "done" and entry.origin == origin
        return is_done and (self.path / result).is_file()

    def made_from_another(self, result: str, file: Path, sha256: str) -> str | None:
        """Return the path of the file that a result was made from, if that is another one by its path and its hash."""
        entry = self._entries.get(result)
        if entry is None or entry.state != "done" or not (self.path / result).is_file():
            return None
        same = entry.origin.sha256 == sha256 or Path(entry.file).resolve() == file.resolve()
        return None if same else entry.file

    def failed_before(self, result: str) -> bool:
        """Return True if the last attempt to make a result failed."""
        return result in self._entries and self._entries[result].state == "failed"

    @contextmanager
    def writing(self, result: str) -> Iterator[PartialFile]:
        """Begin a result, which is gone at the end of the block unless it was finished. Raises Stopped or OSError."""
        with self._lock:
            self._go_on()
            path = self.path / result
            path.parent.mkdir(parents=True, exist_ok=True)
            file = PartialFile(path)
            self._writing.add(file)
        try:
            yield file
        finally:
            with self._lock:
                file.discard()
                self._writing.discard(file)

    def finish(self, file: PartialFile, entry: Entry) -> None:
        """Have a result under its name, and its entry in the manifest. Raises Stopped or OSError."""
        with self._lock:
            self._go_on()
            file.commit()
            self._append(entry)

    def note(self, entry: Entry) -> None:
        """Append the entry of a result that could not be made. Raises Stopped or OSError."""
        with self._lock:
            self._go_on()
            self._append(entry)

    def close(self) -> None:
        """Remove the results that are being written, let no thread write any more, and let others use the folder."""
        with self._lock:
            self._stopped = True
            for file in self._writing:
                file.discard()
        self._manifest.close()

    def _go_on(self) -> None:
        if self._stopped:
            raise Stopped

    def _append(self, entry: Entry) -> None:
        self._manifest.write(entry.line())
        self._manifest.flush()
        os.fsync(self._manifest.fileno())
        self._entries[entry.result] = entry


def _lock_file(file: IO[bytes], folder: Path) -> None:
    """Lock a file until it is closed; a killed process leaves no lock."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(f"{folder}: another command is writing results there") from None


def _whole_entries(file: IO[bytes]) -> list[Entry]:
    """Return the entries of a manifest, and cut off a last line that was not written to its end."""
    file.seek(0)
    *lines, rest = file.read().split(b"\n")
    try:
        entries = [Entry.of(line) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file.name}: a line is no entry of a manifest ({error}); name another folder") from error
    if rest:
        file.truncate(sum(len(line) + 1 for line in lines))
    return entries
