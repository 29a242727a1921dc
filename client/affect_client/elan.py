"""Recordings as annotations for ELAN: an EAF file with intervals of each track, unit and expression."""

import mimetypes
import os
from pathlib import Path

from affect_client.errors import needing
from affect_client.intervals import (
    Interval,
    IntervalRules,
    expression_intervals,
    face_intervals,
    rise_intervals,
    unit_intervals,
)
from affect_client.recordings import Recording


def eaf(recording: Recording, rules: IntervalRules, *, media: Path | None, folder: Path) -> bytes:
    """Return an EAF file (format 2.8). Raises MissingExtra, and ValueError for a recording of a single frame.

    Each track has a tier `track 1 face` where it has a face, and one for each unit (`track 1 AU12`) and expression
    (`track 1 happiness`), also where that is empty: it was looked for and not found. What was compared with a baseline
    has one more (`track 1 AU12 rose`). The value of an annotation tells the apex. Times are those of the source,
    rounded to milliseconds.

    Args:
        recording: what is told.
        rules: thresholds, and which intervals are told.
        media: the video, which ELAN opens beside the annotations.
        folder: where the file will be, from which the relative path to the video leads.
    """
    with needing("elan"):
        from pympi.Elan import Eaf, to_string

    document = Eaf(author="facial-affect-service")
    document.remove_tier("default")
    if media is not None:
        kind = mimetypes.guess_type(media.name)[0] or "video/*"
        relative = Path(os.path.relpath(media.resolve(), folder.resolve())).as_posix()
        document.add_linked_file(media.resolve().as_uri(), relpath=f"./{relative}", mimetype=kind)
    for name, found in _tiers(recording, rules):
        document.add_tier(name)
        for each in found:
            document.add_annotation(name, _ms(each.onset_s), _ms(each.offset_s), _told(each, name))
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(to_string(document, encoding="UTF-8"))


def _tiers(recording: Recording, rules: IntervalRules) -> list[tuple[str, list[Interval]]]:
    """Return the intervals of each tier, by its name."""
    tiers, rising = [], recording.rising
    for track_id in sorted(recording.tracks):
        tiers.append((f"track {track_id} face", face_intervals(recording, track_id)))
        for unit in recording.units:
            tiers.append((f"track {track_id} {unit}", unit_intervals(recording, track_id, unit, rules)))
        for label in recording.labels:
            tiers.append((f"track {track_id} {label}", expression_intervals(recording, track_id, label, rules)))
        for name in rising:
            tiers.append((f"track {track_id} {name} rose", rise_intervals(recording, track_id, name, rules)))
    return tiers


def _told(interval: Interval, tier: str) -> str:
    """Return the value of an annotation."""
    if tier.endswith(" face"):
        return "face"
    measure = "change" if tier.endswith(" rose") else "probability"
    return f"apex {interval.apex_s:.3f} s, {measure} {interval.peak:.2f}"


def _ms(time_s: float) -> int:
    return round(1000 * time_s)
