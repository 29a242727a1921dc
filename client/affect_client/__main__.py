"""The command `affect`: what can be done with a running service from a terminal, and a start of one."""

import argparse
import os
import sys
from typing import TextIO

from affect_client.commands import analyze, annotate, convert, plot, serve, watch
from affect_client.commands.folder import FolderInUse
from affect_client.errors import AffectError, MissingExtra, sentence

COMMANDS = {
    "analyze": (analyze, "analyse pictures and videos into tables, with a manifest; resumable"),
    "annotate": (annotate, "draw the analysis on a video, or hide all faces"),
    "convert": (convert, "write a result of a video for BIDS or ELAN"),
    "plot": (plot, "draw valence, arousal and action units of a video over time"),
    "watch": (watch, "analyse a camera's pictures as they come"),
    "serve": (serve, "start the service on this machine"),
}

INTERRUPTED = 130
"""The status of a command that Ctrl-C ended."""

NOBODY_READS = 141
"""The status of a command whose output nobody reads any more, as a shell has it for one that SIGPIPE ended."""


def main(words: list[str] | None = None) -> int:
    """Run a command, and return its exit status: what it returns, or 1, 130 or 141 where it does not end itself."""
    try:
        try:
            return _run(words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # an error of writing is met here, not at the exit of the interpreter
    except BrokenPipeError:
        _drop(sys.stdout, sys.stderr)
        return NOBODY_READS
    except OSError as error:
        _drop(sys.stdout)
        print(f"affect: the output cannot be written: {sentence(error)}", file=sys.stderr)
        return 1


def _run(words: list[str] | None) -> int:
    """Run a command, and tell its errors. Raises OSError where that, or its output, cannot be written."""
    arguments = _parser().parse_args(words)
    try:
        status: int = arguments.run(arguments)
    except BrokenPipeError:
        raise
    except (AffectError, FolderInUse, MissingExtra, OSError, ValueError) as error:
        print(f"affect {arguments.command}: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"affect {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _drop(*outputs: TextIO | None) -> None:
    """Have what is still to be printed go nowhere, so that the interpreter can end without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        if output is not None:
            os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="affect", description="Facial affect in pictures and videos.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, about) in COMMANDS.items():
        words_of = commands.add_parser(name, help=about, description=command.__doc__)
        command.add_arguments(words_of)
        words_of.set_defaults(run=command.run, command=name)
    return parser


if __name__ == "__main__":
    sys.exit(main())
