"""The training commands' command line: every mistake is one line on standard error, and an exit status."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

WRONG_USAGE = 2
"""Exit status for arguments that cannot be; what goes wrong later ends with 1."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser that tells a mistake in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """End the process with the message and where the arguments are explained."""
        self.exit(WRONG_USAGE, f"error: {_on_one_line(message)} ({self.prog} --help lists the arguments)\n")


def at_least(smallest: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from `smallest` on."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is less than {smallest}")
        return value

    return whole_number


def share(text: str) -> float:
    """Read an argument that is a number within 0 and 1. Raises ValueError, argparse.ArgumentTypeError."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def require_parent(out: Path | None) -> None:
    """Refuse a file that could not be written when the work is done. Raises NotADirectoryError."""
    if out is not None and not out.absolute().parent.is_dir():
        raise NotADirectoryError(f"{out.parent} is no folder to write {out.name} into")


def fail(error: Exception) -> NoReturn:
    """End the process with status 1 and an error's message on one line."""
    sys.exit(f"error: {_on_one_line(str(error))}")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
