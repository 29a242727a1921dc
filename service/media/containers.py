"""Video containers: recognise the format of a file, whether it was cut off, and why a decoder refused it."""

import mmap
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.errors import NoVideoFrames, ServiceError, UndecodableMedia, UnsupportedMediaType

_MAX_PARTS = 10_000
"""Largest number of parts of a file that are looked at; a hostile file may consist of millions of tiny ones."""


@dataclass(frozen=True)
class Container:
    """A container format of video files."""

    name: str
    start: re.Pattern[bytes]
    """Matches the beginning of its files."""
    sound: re.Pattern[bytes]
    """Matches the declaration of a sound track."""
    picture: re.Pattern[bytes]
    """Matches the declaration of a picture track."""
    is_cut: Callable[[mmap.mmap], bool]
    """Tells whether bytes are missing at the end of a file; may raise struct.error, which means yes."""


@dataclass(frozen=True)
class VideoFile:
    """A file in one of the containers that the service reads."""

    path: Path
    container: Container

    def is_cut(self) -> bool:
        """Return whether bytes are missing at the end of the file, by the sizes that its parts announce."""
        with self._mapped() as data:
            try:
                return self.container.is_cut(data)
            except struct.error:
                return True

    def why_unreadable(self) -> ServiceError:
        """Return the error for a file that the decoder refused: it has only sound, or it is damaged.

        An MP4 that was cut off before its index is one that cannot be read at all.
        """
        with self._mapped() as data:
            if self.container.sound.search(data) and not self.container.picture.search(data):
                return NoVideoFrames(f"the {self.container.name} file has sound but no picture")
        return UndecodableMedia(f"the {self.container.name} file is damaged or incomplete")

    def _mapped(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def recognise_video(path: Path) -> VideoFile:
    """Return a file with its container. Raises UnsupportedMediaType for a format that the service does not read."""
    with path.open("rb") as file:
        head = file.read(16)
    for container in _CONTAINERS:
        if container.start.match(head):
            return VideoFile(path, container)
    raise UnsupportedMediaType("the content is not an MP4, MOV, WebM, Matroska, AVI or GIF video")


def _mp4_is_cut(data: mmap.mmap) -> bool:
    position = 0
    for _ in range(_MAX_PARTS):
        if position >= len(data):
            break
        (size,) = struct.unpack_from(">I", data, position)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
        if size < 8:  # 0: up to the end of the file
            return False
        position += size
    return position > len(data)


def _avi_is_cut(data: mmap.mmap) -> bool:
    position = 0
    for _ in range(_MAX_PARTS):  # large files are several of them
        if data[position : position + 4] != b"RIFF":
            break
        (size,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + size
    return position > len(data)


def _matroska_is_cut(data: mmap.mmap) -> bool:
    """Check the two elements, header and segment: an id of four bytes, a size of 1 to 8 bytes, the content."""
    position = 0
    for _ in range(2):
        (first,) = struct.unpack_from("B", data, position + 4)
        width = 9 - first.bit_length()
        size = int.from_bytes(data[position + 4 : position + 4 + width], "big") - (1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # unknown: a live recording
            return False
        position += 4 + width + size
    return position > len(data)


def _gif_is_cut(data: mmap.mmap) -> bool:
    return not data[-64:].rstrip(b"\0").endswith(b";")


def _pattern(regex: bytes) -> re.Pattern[bytes]:
    return re.compile(regex, re.DOTALL)


_CONTAINERS = (
    Container(
        "MP4",
        # Older QuickTime files begin with another atom than `ftyp`.
        _pattern(rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)"),
        _pattern(rb"hdlr.{8}soun"),
        _pattern(rb"hdlr.{8}vide"),
        _mp4_is_cut,
    ),
    Container(
        "Matroska",
        _pattern(rb"\x1a\x45\xdf\xa3"),
        # The element that names a track's codec: A_OPUS, V_VP9.
        _pattern(rb"\x86[\x80-\xff]A_"),
        _pattern(rb"\x86[\x80-\xff]V_"),
        _matroska_is_cut,
    ),
    Container("AVI", _pattern(rb"RIFF.{4}AVI "), _pattern(rb"strh.{4}auds"), _pattern(rb"strh.{4}vids"), _avi_is_cut),
    Container("GIF", _pattern(rb"GIF8[79]a"), _pattern(rb"(?!)"), _pattern(rb"(?!)"), _gif_is_cut),
)
