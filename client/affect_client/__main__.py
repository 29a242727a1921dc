"""The command `affect`: what can be done with a running service from a terminal, and a start of one."""

import argparse
import sys

from affect_client.commands import analyze, annotate, convert, plot, serve, watch

COMMANDS = {
    "analyze": (analyze, "analyse pictures and videos into tables, with a manifest; resumable"),
    "annotate": (annotate, "draw the analysis on a video, or hide all faces"),
    "convert": (convert, "write a result of a video for BIDS or ELAN"),
    "plot": (plot, "draw valence, arousal and action units of a video over time"),
    "watch": (watch, "analyse a camera's pictures as they come"),
    "serve": (serve, "start the service on this machine"),
}


def main(words: list[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="affect", description="Facial affect in pictures and videos.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, about) in COMMANDS.items():
        words_of = commands.add_parser(name, help=about, description=command.__doc__)
        command.add_arguments(words_of)
        words_of.set_defaults(run=command.run)
    arguments = parser.parse_args(words)
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
