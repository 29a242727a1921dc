"""The pictures and videos that a command line names, and where the result of each will be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PICTURE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .heic .heif .avif".split())
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3g2 .webm .mkv .avi .gif .mpg .mpeg .m2v .ts .mts .m2ts .wmv .asf .flv .ogv .ogg".split()
)
"""Suffixes by which folders are searched; a file that is named itself may have any."""

_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class Kind(StrEnum):
    """Pictures and videos are analysed in different ways."""

    PICTURE = "picture"
    VIDEO = "video"


@dataclass(frozen=True)
class Input:
    """A file to analyse."""

    path: Path
    result: str
    """Path of its result in the folder of results, with slashes, but for the suffix that the format adds."""

    @property
    def kind(self) -> Kind:
        """The kind by the first bytes, if they are a picture's, or else by the suffix. Raises OSError."""
        with self.path.open("rb") as file:
            head = file.read(16)
        is_picture = _begins_like_a_picture(head) or self.path.suffix.lower() in PICTURE_SUFFIXES
        return Kind.PICTURE if is_picture else Kind.VIDEO


def find_inputs(paths: Sequence[Path]) -> list[Input]:
    """Return the files that paths name, and the pictures and videos of folders and those below them, each once.

    The result of a file from a folder has the same place in the folder of results. Raises ValueError for a path without
    a file, where there is nothing to analyse, and where two files would have the same result.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file, result in _files(path):
            if found.setdefault(result, file).resolve() != file.resolve():
                raise ValueError(f"{found[result]} and {file} would have the same result; name the folder of both")
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: there is no picture and no video in it")
    return [Input(file, result) for result, file in found.items()]


def passed_over(paths: Sequence[Path], results: Path) -> Counter[str]:
    """Return how many files of the folders that paths name are of no known kind, by suffix; `results` is left out."""
    found: Counter[str] = Counter()
    results = results.resolve()
    for path in filter(Path.is_dir, paths):
        for file in _visible(path):
            suffix = file.suffix.lower()
            known = suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES
            if not known and not file.resolve().is_relative_to(results):
                found[suffix] += 1
    return found


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Return the files of a path, each with the name of its result."""
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file or folder")
        yield path, path.name
        return
    for file in _visible(path):
        if file.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
            yield file, file.relative_to(path).as_posix()


def _visible(folder: Path) -> Iterator[Path]:
    """Return the files of a folder and those below it, without hidden ones."""
    for file in sorted(folder.rglob("*")):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts) and file.is_file():
            yield file


def _begins_like_a_picture(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] in _PICTURE_BRANDS
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return is_webp or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"))
