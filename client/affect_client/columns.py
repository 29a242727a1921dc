"""Frames as rows of the service's CSV with its native columns, so that pictures and pandas tables have the same."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from affect_client.faces import Face, Frame

PLACE = (
    "frame",
    "time_s",
    "track_id",
    "box_x",
    "box_y",
    "box_width",
    "box_height",
    "detection_confidence",
    "yaw",
    "pitch",
    "roll",
    "face_px",
    "sharpness",
    "reliable",
    "reasons",
)
"""Columns that every table has."""


def native_columns(
    tasks: Collection[str], labels: Sequence[str], units: Sequence[str], faces: Collection[Face]
) -> list[str]:
    """Return the names of the columns in their order.

    `tasks` are those that the service answers, `labels` and `units` the names of expressions and action units. Changes
    against a baseline have columns where a face has them.
    """
    names = list(PLACE)
    if "valence_arousal" in tasks:
        names += ["valence", "arousal"]
    if "expression" in tasks:
        names += ["expression", *(f"expression_{label}" for label in labels)]
    for unit in units:
        names += [unit, f"{unit}_active"]
    if "eyes_closed" in tasks:
        names += ["eyes_closed", "eyes_closed_active"]
    changes = {name: change for face in faces for name, change in (face.change or {}).items()}
    for name, change in changes.items():
        names += [f"{name}_change", *([] if change.rose is None else [f"{name}_rose"])]
    return names


def native_rows(frame: Frame) -> Iterator[dict[str, Any]]:
    """Return the cells of each face of a frame, and those of the frame alone if it has no face."""
    place = {"frame": frame.frame, "time_s": frame.time_s}
    if not frame.faces:
        yield place
    for face in frame.faces:
        yield place | _cells(face)


def _cells(face: Face) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "track_id": face.track_id,
        **{f"box_{name}": value for name, value in vars(face.box).items()},
        "detection_confidence": face.detection_confidence,
        **vars(face.pose),
        "face_px": face.quality.face_px,
        "sharpness": face.quality.sharpness,
        "reliable": int(face.quality.reliable),
        "reasons": " ".join(face.quality.reasons) or "none",  # an empty cell would be a missing value
        "valence": face.valence,
        "arousal": face.arousal,
    }
    if face.expression:
        probabilities = face.expression.probabilities
        cells["expression"] = face.expression.label
        cells |= {f"expression_{label}": value for label, value in probabilities.items()}
    for name, unit in (face.action_units or {}).items():
        cells |= {name: unit.probability, f"{name}_active": int(unit.active)}
    if face.eyes_closed:
        cells |= {"eyes_closed": face.eyes_closed.probability, "eyes_closed_active": int(face.eyes_closed.active)}
    for name, change in (face.change or {}).items():
        cells[f"{name}_change"] = change.value
        if change.rose is not None:
            cells[f"{name}_rose"] = int(change.rose)
    return cells
