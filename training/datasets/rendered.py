"""Rendered portraits whose action units are known, as `python -m training.render` writes them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.faces.geometry import Frame
from training.datasets.pictures import read_picture
from training.datasets.raw import SPLITS, DatasetError, RawFace, Split

MANIFEST = "pictures.jsonl"
"""Name of the table: a line of JSON for each picture."""

PRESENT = 0.2
"""Intensity from which on a unit counts as present: FACS' B, a slight one."""


@dataclass(frozen=True)
class RenderedPicture:
    """A line of the table: what is known of a picture."""

    file: str
    """Path of the picture below the folder."""
    sitting: int
    """Number of the sitting; its first picture is neutral, in the same pose and light."""
    person: str
    original: str
    """The person whom this one resembles in all but skin, sex or age, and whose sitting it repeats; or `person`."""
    split: Split
    model: str
    sex: str
    age: float
    """In years."""
    age_group: str
    tone: str
    """Of the skin: light, medium or dark."""
    kind: str
    """neutral, single, pair, expression or other."""
    expression: str | None
    strength: float
    """Intensity of the whole movement, in [0, 1]."""
    votes: tuple[float, ...]
    """Shares of FER+'s eight labels; all 0 where no expression was composed."""
    left: tuple[float, ...]
    """Intensities of the twelve units of ACTION_UNITS on the person's left side, in [0, 1]."""
    right: tuple[float, ...]
    others: dict[str, float]
    """Units beside the twelve -> intensity of the stronger side, in [0, 1]."""
    yaw: float
    """In degrees, to the person's left."""
    pitch: float
    """In degrees, up."""
    roll: float
    """In degrees, to the person's right shoulder."""
    gaze: tuple[float, float]
    """In degrees, to the person's left and up, relative to the head."""
    eyes_closed: float
    """In [0, 1]."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}")
        sizes = {"votes": len(LABEL_SETS["ferplus"]), "left": len(ACTION_UNITS), "right": len(ACTION_UNITS)}
        for name, size in sizes.items():
            values = getattr(self, name)
            if len(values) != size or not all(0 <= value <= 1 for value in values):
                raise ValueError(f"{name} are {size} numbers in [0, 1]")

    @property
    def units(self) -> tuple[float, ...]:
        """Intensities of the twelve units: those of the stronger side, as FACS scores a face."""
        return tuple(max(pair) for pair in zip(self.left, self.right, strict=True))


def as_json(picture: RenderedPicture) -> str:
    """Return a line of the table; numbers have four decimals."""
    return json.dumps(_rounded(asdict(picture)), separators=(",", ":")) + "\n"


def from_json(text: str) -> RenderedPicture:
    """Return the picture that a line of the table describes. Raises ValueError where it is not as expected."""
    try:
        fields: dict[str, Any] = json.loads(text)
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return RenderedPicture(**(fields | tuples))
    except (AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


class Rendered:
    """Layout: `pictures.jsonl`, and the pictures that it names.

    Expressions are given where they were composed, action units always; valence and arousal are unknown.
    """

    label_set = "ferplus"
    annotators = 1

    def faces(self, root: Path) -> Iterator[RawFace]:
        """See DatasetReader."""
        for picture in rendered_pictures(root):
            name = f"{picture.person}/{picture.file}"
            yield RawFace(name, picture.split, root / picture.file, picture.votes, action_units=picture.units)

    def load(self, face: RawFace) -> Frame:
        """The picture as it was rendered."""
        return read_picture(face.path)


def rendered_pictures(root: Path) -> Iterator[RenderedPicture]:
    """Return the lines of the table in `root`. Raises DatasetError where one is not as expected."""
    table = root / MANIFEST
    if not table.is_file():
        raise DatasetError(f"the reader of rendered faces expects {table} with a line for each picture")
    with table.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield from_json(line)
            except ValueError as error:
                raise DatasetError(f"{table} line {number} does not describe a rendered picture: {error}") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, tuple) else value
