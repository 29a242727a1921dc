"""Recordings as BIDS 1.10 has continuous ones: a table without a header, and a JSON file beside it."""

import gzip
import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from affect_client.numbers import FINITE, SAMPLING_HZ
from affect_client.recordings import Recording

NAME = re.compile(r"sub-[a-zA-Z0-9]+(_ses-[a-zA-Z0-9]+)?_task-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9]+)*_physio\.tsv\.gz")
"""The name of such a table, with the entities that BIDS demands."""

_REFERENCES = {
    "annotated": "Its training labels were given by human annotators.",
    "derived": "Its training labels were derived by a rule or another model, not given by human annotators.",
    "rendered": "Its training labels are those of rendered faces, not of photographs.",
}
_NO_REFERENCE = "Whether its training labels were human annotations or derived is told by the service at /models."


@dataclass(frozen=True)
class Physio:
    """A regularly sampled recording of one person."""

    table: bytes
    """Content of the `_physio.tsv.gz`: a row for each sample, no header, `n/a` for a missing value."""
    sidecar: Mapping[str, Any]
    """Content of the `_physio.json`."""


def physio(
    recording: Recording, track_id: int, *, sampling_hz: float | None = None, start_time_s: float = 0.0
) -> Physio:
    """Return a track at regular times. Raises ValueError for an unknown track, a single frame, and wrong numbers.

    Each sample repeats the analysed frame that is nearest in time; nothing is interpolated. It is `n/a` where the track
    has no face in that frame, and where no frame is within half a step, that of the frames or that of the samples,
    whichever is longer.

    Args:
        recording: what is told.
        track_id: the person.
        sampling_hz: samples a second, at most 10000; by default the usual rate of the analysed frames.
        start_time_s: time from the start of the acquisition that the recording belongs to, such as a scan, to 0 s of
            the video.
    """
    FINITE.check("start_time_s", start_time_s)
    if sampling_hz is not None:
        SAMPLING_HZ.check("sampling_hz", sampling_hz)
    track = recording.track(track_id)
    columns = [name for name in _columns(recording) if not all(map(math.isnan, track[name]))]
    step_s = recording.step_s if sampling_hz is None else 1 / sampling_hz
    places = _nearest(recording.times_s, step_s, max(step_s, recording.step_s) / 2)
    lines = ["\t".join(_cell(track[name], place) for name in columns) for place in places]
    sidecar = {
        "SamplingFrequency": 1 / step_s if sampling_hz is None else sampling_hz,
        "StartTime": start_time_s + recording.times_s[0],
        "Columns": columns,
        "PhysioType": "generic",
        **{name: _described(name, recording.references) for name in columns},
    }
    # Without the time of writing, the same recording gives the same file.
    return Physio(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0), sidecar)


def _columns(recording: Recording) -> list[str]:
    return [
        *("valence", "arousal"),
        *recording.units,
        *(f"expression_{label}" for label in recording.labels),
        *(f"{name}_change" for name in recording.changes),
    ]


def _nearest(times_s: Sequence[float], step_s: float, tolerance_s: float) -> list[int | None]:
    """Return for each regular time, from the first to the last frame, the place of the nearest frame if it is near."""
    count = math.floor((times_s[-1] - times_s[0]) / step_s + 0.5) + 1
    places: list[int | None] = []
    for number in range(count):
        time_s = times_s[0] + number * step_s
        after = bisect_left(times_s, time_s)
        place = min(range(max(0, after - 1), min(after + 1, len(times_s))), key=lambda at: abs(times_s[at] - time_s))
        is_near = abs(times_s[place] - time_s) <= tolerance_s * (1 + 1e-6)
        places.append(place if is_near else None)
    return places


def _cell(values: Sequence[float], place: int | None) -> str:
    return "n/a" if place is None or math.isnan(values[place]) else repr(values[place])


def _described(column: str, references: Mapping[str, str]) -> dict[str, str]:
    """Return what BIDS tells of a column; the unit 1 is that of quantities without a dimension."""
    if column == "valence":
        task, meaning = "valence_arousal", "Estimated valence, from -1 (unpleasant) to 1 (pleasant)."
    elif column == "arousal":
        task, meaning = "valence_arousal", "Estimated arousal, from -1 (calm) to 1 (excited)."
    elif column == "eyes_closed":
        task, meaning = "eyes_closed", "Estimated probability that both eyes are closed, from 0 to 1."
    elif column.startswith("expression_"):
        label = column.removeprefix("expression_")
        task, meaning = "expression", f"Estimated probability of the expression {label}, from 0 to 1."
    elif column.endswith("_change"):
        name = column.removesuffix("_change")
        is_unit = name.startswith("AU")
        task = ("unit_changes" if "unit_changes" in references else "action_units") if is_unit else "valence_arousal"
        least = -1 if is_unit else -2
        meaning = f"Estimated change of {name} against the same person's own baseline, from {least} to {-least}."
    else:
        task = "action_units"
        meaning = f"Estimated probability that the action unit {column} is present, from 0 to 1; not an intensity."
    origin = _REFERENCES.get(references.get(task, ""), _NO_REFERENCE)
    return {"Description": f"{meaning} {origin}", "Units": "1"}
