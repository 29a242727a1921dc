"""A video's analysis as CSV: one row a face a frame, and one without a face for a frame in which none was found.

Three sets of columns: `native` has all that the answer holds, `openface` the names of OpenFace 2.2's FeatureExtraction,
`fex` those of py-feat's Fex, so that the programs people have go on working. Yes and no are 1 and 0.
"""

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from model_core.affect import ACTION_UNITS, Task
from model_core.baseline import Comparison
from model_core.faces.pose import Pose
from service.analysis.results import FaceResult, FrameResult
from service.media.videos import MediaInfo
from service.output.sink import Ending

Columns: TypeAlias = Literal["native", "openface", "fex"]
Row: TypeAlias = Mapping[str, Any]


class ColumnSet(ABC):
    """Names of columns in their order, and what stands in them. A cell without a value stays empty."""

    names: Sequence[str]

    @abstractmethod
    def frame(self, result: FrameResult) -> Row:
        """Return the cells that tell of the frame, also where it has no face."""

    @abstractmethod
    def face(self, face: FaceResult) -> Row:
        """Return the cells that tell of one of its faces."""


class NativeColumns(ColumnSet):
    """All that a JSON sample holds, by the same names; columns of tasks that no bundle covers are left out."""

    def __init__(self, tasks: Iterable[Task], labels: Sequence[str], compared: Comparison | None = None) -> None:
        """Take the tasks and labels of the answer, and the comparison where faces are compared with a baseline."""
        names = [
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
        ]
        covered = set(tasks)
        if "valence_arousal" in covered:
            names += ["valence", "arousal"]
        if "expression" in covered:
            names += ["expression", *(f"expression_{label}" for label in labels)]
        if "action_units" in covered:
            names += [name for unit in ACTION_UNITS for name in (unit, f"{unit}_active")]
        if "eyes_closed" in covered:
            names += ["eyes_closed", "eyes_closed_active"]
        if compared is not None:
            for name in compared.names:
                names += [f"{name}_change", *([f"{name}_rose"] if name in compared.limits else [])]
        self.names = names

    def frame(self, result: FrameResult) -> Row:
        """See ColumnSet."""
        return {"frame": result.frame, "time_s": result.time_s}

    def face(self, face: FaceResult) -> Row:
        """See ColumnSet."""
        box = face.face.box
        cells: dict[str, Any] = {
            "track_id": face.track_id,
            "box_x": box.x,
            "box_y": box.y,
            "box_width": box.width,
            "box_height": box.height,
            "detection_confidence": face.face.confidence,
            **face.pose._asdict(),
            "face_px": face.quality.face_px,
            "sharpness": face.quality.sharpness,
            "reliable": int(face.quality.reliable),
            "reasons": " ".join(face.quality.reasons) or "none",  # an empty cell would be a missing value
        }
        affect = face.affect
        if affect.valence is not None:
            cells |= {"valence": affect.valence, "arousal": affect.arousal}
        if affect.expression is not None:
            probabilities = affect.expression.probabilities
            cells |= {"expression": affect.expression.label}
            cells |= {f"expression_{label}": value for label, value in probabilities.items()}
        for unit, state in (affect.action_units or {}).items():
            cells |= {unit: state.probability, f"{unit}_active": int(state.active)}
        if affect.eyes_closed is not None:
            cells |= {
                "eyes_closed": affect.eyes_closed.probability,
                "eyes_closed_active": int(affect.eyes_closed.active),
            }
        for name, change in (face.changes or {}).items():
            cells[f"{name}_change"] = change.value
            if change.rose is not None:
                cells[f"{name}_rose"] = int(change.rose)
        return cells


class OpenFaceColumns(ColumnSet):
    """OpenFace 2.2's names, as far as this service has their meaning.

    Intensities (`AU01_r`) and the head's position (`pose_Tx`) stay empty, since neither is estimated; `AU01_p` is the
    probability that the unit is present, which OpenFace does not have, and `AU01_c` whether it reaches the unit's
    threshold. `AU45_c`, a blink, tells whether the eyes are closed. Frames count from 1, as there. The pose is in
    radians with OpenFace's signs and order of turns: `pose_Rx` is positive for a face that looks down, `pose_Ry` for
    one that looks to the picture's left, `pose_Rz` for one that is tilted clockwise.
    """

    units: ClassVar = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
    """Those that OpenFace gives an intensity; AU28 only occurs or does not."""
    pose: ClassVar = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")

    def __init__(self) -> None:
        intensities = [f"AU{number:02d}_r" for number in self.units]
        occurrences = [f"AU{number:02d}_c" for number in sorted((*self.units, 28))]
        self.names = [
            "frame",
            "face_id",
            "timestamp",
            "confidence",
            "success",
            *self.pose,
            *intensities,
            *occurrences,
            "AU24_c",
            *(f"{_padded(unit)}_p" for unit in ACTION_UNITS),
        ]

    def frame(self, result: FrameResult) -> Row:
        """See ColumnSet."""
        return {"frame": result.frame + 1, "timestamp": result.time_s, "success": int(bool(result.faces))}

    def face(self, face: FaceResult) -> Row:
        """See ColumnSet."""
        cells: dict[str, Any] = {"face_id": face.track_id, "confidence": face.face.confidence}
        cells |= zip(self.pose[3:], _openface_angles(face.pose), strict=True)
        for unit, state in (face.affect.action_units or {}).items():
            cells |= {f"{_padded(unit)}_c": int(state.active), f"{_padded(unit)}_p": state.probability}
        if face.affect.eyes_closed is not None:
            cells["AU45_c"] = int(face.affect.eyes_closed.active)
        return cells


class FexColumns(ColumnSet):
    """py-feat's names of its second detector, whose tables have valence and arousal: its `read_feat` opens the file.

    Units are probabilities here as there. The pose is in radians with py-feat's signs: `Pitch` is positive for a face
    that looks up, `Yaw` for one that looks to the picture's left, `Roll` for one that is tilted anticlockwise. The
    head's position (`X`, `Y`, `Z`) is not estimated, so its columns are empty.
    """

    emotions: ClassVar = {
        "Neutral": "neutral",
        "Happy": "happiness",
        "Sad": "sadness",
        "Surprise": "surprise",
        "Fear": "fear",
        "Disgust": "disgust",
        "Anger": "anger",
        "Contempt": "contempt",
    }
    pose: ClassVar = ("Pitch", "Roll", "Yaw", "X", "Y", "Z")

    def __init__(self) -> None:
        self.names = [
            "frame",
            "approx_time",
            "track_id",
            "FaceRectX",
            "FaceRectY",
            "FaceRectWidth",
            "FaceRectHeight",
            "FaceScore",
            *self.pose,
            "valence",
            "arousal",
            *(_padded(unit) for unit in ACTION_UNITS),
            *self.emotions,
        ]

    def frame(self, result: FrameResult) -> Row:
        """See ColumnSet."""
        return {"frame": result.frame, "approx_time": result.time_s}

    def face(self, face: FaceResult) -> Row:
        """See ColumnSet."""
        box = face.face.box
        affect = face.affect
        cells: dict[str, Any] = {
            "track_id": face.track_id,
            "FaceRectX": box.x,
            "FaceRectY": box.y,
            "FaceRectWidth": box.width,
            "FaceRectHeight": box.height,
            "FaceScore": face.face.confidence,
            "Pitch": math.radians(face.pose.pitch),
            "Roll": -math.radians(face.pose.roll),
            "Yaw": -math.radians(face.pose.yaw),
            "valence": affect.valence,
            "arousal": affect.arousal,
        }
        cells |= {_padded(unit): state.probability for unit, state in (affect.action_units or {}).items()}
        if affect.expression is not None:
            probabilities = affect.expression.probabilities
            cells |= {name: probabilities.get(label) for name, label in self.emotions.items()}
        return cells


class CsvStream:
    """The sink that gives a header, then the rows of each frame. Nothing is kept.

    Where the analysis fails the last line is a comment, `# error: {...}`; so is `# truncated: ...` of a damaged file.
    """

    media_type = "text/csv"

    def __init__(self, columns: ColumnSet) -> None:
        self._columns = columns

    def begin(self, info: MediaInfo) -> bytes:
        """See Sink."""
        return self._written([dict(zip(self._columns.names, self._columns.names, strict=True))])

    def add(self, result: FrameResult) -> bytes:
        """See Sink."""
        frame = self._columns.frame(result)
        return self._written([{**frame, **self._columns.face(face)} for face in result.faces] or [frame])

    def end(self, ending: Ending) -> Iterable[bytes]:
        """See Sink."""
        return [b"# truncated: the file is damaged and ended early\n"] if ending.truncated else []

    def failure(self, problem: Mapping[str, object]) -> bytes:
        """See Sink."""
        return f"# error: {json.dumps(problem)}\n".encode()

    def _written(self, rows: Iterable[Row]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self._columns.names, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def _openface_angles(pose: Pose) -> tuple[float, float, float]:
    """Return the angles in radians about OpenFace's axes: to the picture's right, down, and away from the camera.

    There a head is turned about the third axis first, then about the second, then about the first.
    """
    rotation = pose.matrix() * np.outer([1, -1, -1], [1, -1, -1])
    return (
        math.atan2(-rotation[1, 2], rotation[2, 2]),
        math.asin(min(max(rotation[0, 2], -1), 1)),
        math.atan2(-rotation[0, 1], rotation[0, 0]),
    )


def _padded(unit: str) -> str:
    """AU1 -> AU01, as OpenFace and py-feat write it."""
    return f"AU{int(unit.removeprefix('AU')):02d}"
