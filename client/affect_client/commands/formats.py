"""The formats of the results of `affect analyze`, and the tables that the client makes itself."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import IO, Any, Literal

from affect_client.columns import native_columns, native_rows
from affect_client.errors import needing
from affect_client.faces import Frame
from affect_client.results import Model, Picture, document_frames
from affect_client.videos import CSV, JSON, NDJSON

PARQUET_ROWS = 4096
"""Rows of a group of a Parquet file, and so the most that are in memory."""


@dataclass(frozen=True)
class Format:
    """A format of results."""

    suffix: str
    """Is added to the name of the analysed file."""
    media_type: str
    """The media type that is asked for; a table with `baseline=auto` is made from the JSON document."""
    columns: Literal["openface", "fex"] | None = None
    """Columns of a table that are not the native ones; pictures have no such table."""

    @property
    def has_changes(self) -> bool:
        """True if it can hold changes against a whole track, which a stream cannot."""
        return self.media_type != NDJSON and self.columns is None


FORMATS = MappingProxyType(
    {
        "csv": Format("csv", CSV),
        "parquet": Format("parquet", CSV),
        "ndjson": Format("ndjson", NDJSON),
        "json": Format("json", JSON),
        "openface": Format("openface.csv", CSV, "openface"),
        "fex": Format("fex.csv", CSV, "fex"),
    }
)


def picture_csv(picture: Picture, labels: Sequence[str]) -> bytes:
    """Return the table of a picture with the columns of a video's CSV; `labels` are those of all expressions.

    It is frame 0 at 0 s, and its faces have no `track_id`.
    """
    return _native_csv([picture.as_frame], picture.model, labels)


def document_csv(document: Mapping[str, Any], labels: Sequence[str]) -> bytes:
    """Return the table of a video's JSON document, with the columns of the service's CSV, and of changes if any."""
    return _native_csv(document_frames(document), Model.of(document["model"]), labels)


def write_parquet(pieces: Iterable[bytes], file: IO[bytes]) -> None:
    """Write a CSV with native columns as Parquet; pandas reads the same from both. Raises MissingExtra.

    Empty cells are nulls. Memory is that of PARQUET_ROWS rows, whatever the length.
    """
    with needing("tables"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    reader = csv.DictReader(_text_lines(pieces))
    kinds = {name: _kind_of(name) for name in reader.fieldnames or ()}
    arrow_types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, arrow_types[kind]) for name, kind in kinds.items()])
    with pq.ParquetWriter(file, schema) as writer:
        while rows := list(islice(reader, PARQUET_ROWS)):
            cells = [{name: kind(row[name]) if row[name] else None for name, kind in kinds.items()} for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(cells, schema))


def _native_csv(frames: Sequence[Frame], model: Model, labels: Sequence[str]) -> bytes:
    faces = [face for frame in frames for face in frame.faces]
    text = io.StringIO()
    names = native_columns(model.tasks, labels, model.units, faces)
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for frame in frames:
        writer.writerows(native_rows(frame))
    return text.getvalue().encode()


def _text_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Return the lines of a table, without the comments at its end."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in whole if not line.startswith(b"#"))
    if rest:
        yield rest.decode()


def _kind_of(column: str) -> type[str] | type[int] | type[float]:
    """Return the type of the cells of a native column."""
    if column in {"expression", "reasons"}:
        return str
    if column in {"frame", "track_id", "face_px", "reliable"} or column.endswith(("_active", "_rose")):
        return int
    return float
