"""Recognises files that are not what their name promises: what a browser, Git or another library left instead."""

import zipfile
from pathlib import Path

_HEAD_BYTES = 1024
_SAFETENSORS_LENGTH_BYTES = 8
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = (b"<!doctype html", b"<html")


def foreign_kind(path: Path) -> str | None:
    """Return what a file is instead of weights, with what would help; None where nothing is wrong at first sight.

    The answer continues a sentence that begins with the file's name. Raises OSError where the file cannot be read.
    """
    if path.is_dir():
        return "is a folder: give the file in it"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = (
        (not head, "is empty: download it again"),
        (head.startswith(_POINTER), "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
        (text.startswith(_PAGE), "is a web page (HTML): download the file itself, not the page that shows it"),
        (head[_SAFETENSORS_LENGTH_BYTES:].startswith(b'{"'), "is a safetensors file: a torch file is expected here"),
        (_is_script(path), "is a TorchScript archive: a file of weights is expected here"),
    )
    return next((kind for found, kind in kinds if found), None)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
