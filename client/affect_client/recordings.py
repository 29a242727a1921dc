"""Results of videos on disk, read back as series over time."""

import csv
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from affect_client.columns import native_rows
from affect_client.errors import needing
from affect_client.faces import Frame
from affect_client.numbers import FINITE
from affect_client.results import document_frames

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Recording:
    """A video's estimates over time. Values are NaN where a track has no face."""

    times_s: Sequence[float]
    """Time of each analysed frame, which rises."""
    units: Sequence[str]
    """Names of the action units, and `eyes_closed`, as far as they were estimated."""
    labels: Sequence[str]
    """Labels of the expressions; empty where none were estimated."""
    tracks: Mapping[int, Mapping[str, Sequence[float]]]
    """For each track, the ones with the most samples first, its columns at these times: `valence`, `arousal`, `AU12`
    (a probability), `AU12_active` (0 or 1), `expression_happiness` (a probability), `AU12_change`, `AU12_rose` (0 or
    1)."""
    references: Mapping[str, str]
    """For each task where its training labels came from (`annotated`, `derived`, `rendered`); a table does not tell."""
    changes: Sequence[str] = ()
    """What was compared with a baseline, such as `valence` and `AU12`; its columns are NaN where there was none."""
    truncated: bool = False
    """True if the file was damaged and ended early, so that this is its first part; Parquet does not tell."""

    @property
    def rising(self) -> Sequence[str]:
        """Those of `changes` of which is told whether they rose."""
        return [
            name
            for name in self.changes
            if any(not math.isnan(rose) for track in self.tracks.values() for rose in track[f"{name}_rose"])
        ]

    @property
    def step_s(self) -> float:
        """Usual time from one analysed frame to the next, pauses left out. Raises ValueError for a single frame."""
        steps = [after - before for before, after in pairwise(self.times_s)]
        if not steps:
            raise ValueError("there is only one frame, so there is no time between two")
        usual = statistics.median(steps)
        # Timestamps may be rounded to milliseconds, which the mean evens out.
        return statistics.fmean(step for step in steps if step < 1.5 * usual)

    def track(self, track_id: int) -> Mapping[str, Sequence[float]]:
        """Return the columns of a track. Raises ValueError where there is none of this id."""
        if track_id not in self.tracks:
            raise ValueError(f"there is no track {track_id}; there are {', '.join(map(str, sorted(self.tracks)))}")
        return self.tracks[track_id]


def read_recording(path: Path) -> Recording:
    """Read a result of a video: NDJSON, a JSON document, Parquet, or CSV with native columns.

    Raises OSError, MissingExtra, and ValueError for a file that is none of these, without a track, or of an analysis
    that ended with an error or was cut off.
    """
    kind, read = _READERS.get(path.suffix, ("CSV", _read_csv))
    with _understanding(path, kind):
        content = read(path)
    if not content.rows:
        raise ValueError(f"{path}: there is no frame in it")
    if any(row.get(name) in (None, "") for row in content.rows for name in ("frame", "time_s")):
        raise ValueError(f"{path}: is no NDJSON and no table with the service's native columns")
    with _understanding(path, kind):
        recording = _recording(content)
    if not recording.tracks:
        raise ValueError(f"{path}: has no track: it is of a picture, or of a video without faces")
    return recording


@contextmanager
def _understanding(path: Path, kind: str) -> Iterator[None]:
    """Raise ValueError for a file that is another than its name says, or whose values have no meaning here."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no {kind} of the service: it is no text") from error
    except (csv.Error, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{path}: is no {kind} of the service: {error}") from error


class _Content(NamedTuple):
    rows: Sequence[Row]
    references: Mapping[str, str] = MappingProxyType({})
    truncated: bool = False


def _recording(content: _Content) -> Recording:
    rows = content.rows
    times_s = {int(row["frame"]): float(row["time_s"]) for row in rows}
    for time_s in times_s.values():
        FINITE.check("time_s", time_s)
    place = {frame: number for number, frame in enumerate(sorted(times_s))}
    names = dict.fromkeys(name for row in rows for name in row)
    numbered = (name for name in names if name.startswith("AU") and f"{name}_active" in names)
    units = sorted(numbered, key=lambda name: int(name.removeprefix("AU")))
    if "eyes_closed_active" in names:
        units.append("eyes_closed")
    labels = [name.removeprefix("expression_") for name in names if name.startswith("expression_")]
    changes = [name.removesuffix("_change") for name in names if name.endswith("_change")]
    columns = [
        *("valence", "arousal"),
        *(column for unit in units for column in (unit, f"{unit}_active")),
        *(f"expression_{label}" for label in labels),
        *(column for name in changes for column in (f"{name}_change", f"{name}_rose")),
    ]
    tracks: dict[int, dict[str, list[float]]] = {}
    samples: Counter[int] = Counter()
    for row in rows:
        if row.get("track_id") in (None, ""):
            continue
        track_id = int(float(row["track_id"]))
        samples[track_id] += 1
        if track_id not in tracks:
            tracks[track_id] = {name: [math.nan] * len(place) for name in columns}
        for name, values in tracks[track_id].items():
            values[place[int(row["frame"])]] = _number(row.get(name))
    return Recording(
        [times_s[frame] for frame in sorted(times_s)],
        units,
        labels,
        {track_id: tracks[track_id] for track_id, _ in samples.most_common()},
        content.references,
        changes,
        content.truncated,
    )


def _read_csv(path: Path) -> _Content:
    comments: list[str] = []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(_without_comments(file, comments)))
    for comment in comments:
        if comment.startswith("# error:"):
            told = comment.removeprefix("#").strip()
            raise ValueError(f"its analysis did not end well: {told}")
    if any(None in row for row in rows):
        raise ValueError("a line has more cells than the first one has names")
    return _Content(rows, truncated=any(comment.startswith("# truncated:") for comment in comments))


def _without_comments(lines: Iterable[str], comments: list[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("#"):
            comments.append(line)
        else:
            yield line


def _read_parquet(path: Path) -> _Content:
    with needing("tables"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    with path.open("rb") as file:
        try:
            return _Content(pq.read_table(file).to_pylist())
        except (pa.ArrowException, OSError) as error:  # an OSError without a number, if the content is damaged
            raise ValueError(f"it is damaged, or no Parquet at all ({error})") from error


def _read_ndjson(path: Path) -> _Content:
    with path.open(encoding="utf-8") as file:
        objects = [json.loads(line) for line in file]
    frames = [Frame.of(values) for values in objects if values.get("type") == "frame"]
    references = [_references(values) for values in objects if values.get("type") == "video"]
    ending = objects[-1] if objects else {}
    if ending.get("type") == "error":
        raise ValueError(f"its analysis did not end well: {ending['detail']}")
    if frames and ending.get("type") != "summary":
        raise ValueError("it is cut off: its last line is no summary")
    return _Content(_rows(frames), references[0] if references else {}, bool(ending.get("truncated")))


def _read_document(path: Path) -> _Content:
    document = json.loads(path.read_bytes())
    truncated = bool(document.get("video", {}).get("truncated"))
    return _Content(_rows(document_frames(document)), _references(document), truncated)


_READERS: Mapping[str, tuple[str, Callable[[Path], _Content]]] = MappingProxyType(
    {
        ".ndjson": ("NDJSON", _read_ndjson),
        ".json": ("JSON document", _read_document),
        ".parquet": ("Parquet file", _read_parquet),
    }
)
"""What a result is called, and what reads it, by the suffix of a result; what has another one is taken for a CSV."""


def _references(document: Mapping[str, Any]) -> Mapping[str, str]:
    tasks = document.get("model", {}).get("tasks", {})
    return {name: task["reference"] for name, task in tasks.items()}


def _rows(frames: Iterable[Frame]) -> list[Row]:
    return [row for frame in frames for row in native_rows(frame)]


def _number(cell: object) -> float:
    return math.nan if cell in (None, "") else float(str(cell))
