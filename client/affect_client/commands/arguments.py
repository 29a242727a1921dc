"""Arguments that several commands have, and what their values mean."""

import argparse
from collections.abc import Callable
from pathlib import Path

from affect_client.numbers import Range


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the service and the key."""
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service (%(default)s)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds the API key")


def api_key(arguments: argparse.Namespace) -> str | None:
    """Return the key; None where no file is named. Raises OSError, and ValueError for a file that is not one key."""
    path: Path | None = arguments.key_file
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is no text, so it holds no API key") from None
    if len(lines) != 1:
        raise ValueError(f"{path}: holds {len(lines) or 'no'} keys, each in a line; a client has one")
    return lines[0]


def number(allowed: Range) -> Callable[[str], float]:
    """Return the type of an argument that is a number in a range."""

    def read(text: str) -> float:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return int(text) if allowed.is_whole else float(text)

    return read
