"""`affect watch`: answers to a camera's pictures as they come, in the terminal, a table and an LSL stream."""

import argparse
import csv
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from affect_client.affect import Affect
from affect_client.columns import native_columns, native_rows
from affect_client.commands.arguments import add_service, api_key, number
from affect_client.commands.camera import camera_pictures
from affect_client.faces import Face
from affect_client.live import LiveAnswer
from affect_client.lsl import LslOutlet
from affect_client.numbers import OPTIONS, POSITIVE
from affect_client.results import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--camera", default="0", metavar="CAMERA", help="number of a camera, or a video file or stream (%(default)s)"
    )
    parser.add_argument(
        "--fps", type=number(POSITIVE), default=15.0, help="pictures a second that are sent (%(default)s)"
    )
    add_service(parser)
    parser.add_argument("--out", type=Path, metavar="CSV", help="write a table with the columns of a video's CSV")
    parser.add_argument(
        "--lsl", metavar="NAME", help="send the largest face of each picture to the Lab Streaming Layer, by this name"
    )
    options = parser.add_argument_group("parameters of the analysis, whose defaults are the service's")
    options.add_argument(
        "--max-faces",
        type=number(OPTIONS["max_faces"]),
        metavar="N",
        help="at most this many faces; 1 stays with one person",
    )
    options.add_argument(
        "--min-confidence",
        type=number(OPTIONS["min_confidence"]),
        metavar="C",
        help="lowest detection confidence, 0 to 1",
    )
    options.add_argument("--smoothing", choices=("none", "causal"), help="smoothing of each track")


def run(arguments: argparse.Namespace) -> int:
    """Watch until the camera ends or Ctrl-C is pressed. Raises AffectError, MissingExtra, OSError and ValueError."""
    try:
        with Affect(arguments.url, api_key(arguments)) as affect:
            _watch(affect, arguments)
    except KeyboardInterrupt:
        pass
    return 0


def _watch(affect: Affect, arguments: argparse.Namespace) -> None:
    out: Path | None = arguments.out
    if out is not None and out.exists():
        raise ValueError(f"{out}: is there already; a watched session cannot be repeated, so give another --out")
    labels = affect.models().labels
    pictures = camera_pictures(arguments.camera, arguments.fps)
    with (
        _closing(pictures),
        affect.live(
            pictures,
            max_faces=arguments.max_faces,
            min_confidence=arguments.min_confidence,
            smoothing=arguments.smoothing,
        ) as answers,
        _table(out, answers.model, labels) as write,
    ):
        outlet = None if arguments.lsl is None else LslOutlet(arguments.lsl, answers.model, labels)
        for answer in answers:
            print(_line(answer), flush=True)
            write(answer)
            if outlet is not None:
                outlet.push(answer)


@contextmanager
def _closing(pictures: Generator[bytes, None, None]) -> Iterator[None]:
    """Free the camera at the end, unless the thread that sends still waits for a picture, and will end by itself."""
    try:
        yield
    finally:
        with suppress(ValueError):
            pictures.close()


@contextmanager
def _table(path: Path | None, model: Model, labels: tuple[str, ...]) -> Iterator[Callable[[LiveAnswer], None]]:
    """Return the function that adds an answer to the table, which has all rows so far at any moment.

    The file begins with the first answer: without one, there is none.
    """
    if path is None:
        yield lambda answer: None
        return
    with ExitStack() as stack:
        table: Table | None = None

        def write(answer: LiveAnswer) -> None:
            nonlocal table
            if answer.error is not None:
                return
            table = table or Table(stack.enter_context(path.open("x", encoding="utf-8", newline="")), model, labels)
            table.write(answer)

        yield write


class Table:
    """A table that is complete after each answer."""

    def __init__(self, file: TextIO, model: Model, labels: tuple[str, ...]) -> None:
        self._file = file
        columns = native_columns(model.tasks, labels, model.units, ())
        self._writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def write(self, answer: LiveAnswer) -> None:
        """Add the rows of an answer that is no error."""
        self._writer.writerows(native_rows(answer.as_frame))
        self._file.flush()


def _line(answer: LiveAnswer) -> str:
    """Return what the terminal shows of an answer."""
    place = f"frame {answer.frame}"
    if answer.error is not None:
        return f"{place}: {answer.error}"
    skipped = f" ({answer.skipped} skipped)" if answer.skipped else ""
    faces = "; ".join(_told(face) for face in answer.faces) or "no face"
    return f"{place} at {answer.time_s:.2f} s{skipped}: {faces}"


def _told(face: Face) -> str:
    parts = [f"track {face.track_id}"]
    if face.expression is not None:
        parts.append(f"{face.expression.label} {face.expression.probabilities[face.expression.label]:.2f}")
    if face.valence is not None and face.arousal is not None:
        parts.append(f"valence {face.valence:+.2f} arousal {face.arousal:+.2f}")
    parts += [name for name, unit in (face.action_units or {}).items() if unit.active]
    if not face.quality.reliable:
        parts.append(f"not reliable ({', '.join(face.quality.reasons)})")
    return " ".join(parts)
