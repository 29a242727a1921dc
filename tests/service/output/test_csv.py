"""CSV answers, opened by the programs that people open them with."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS, TASKS, ActionUnit, Affect, Expression
from model_core.faces.pose import Pose, head_pose
from model_core.faces.quality import Quality
from service.analysis.results import FaceResult, FrameResult
from service.media.videos import MediaInfo
from service.output.csv import ColumnSet, CsvStream, FexColumns, NativeColumns, OpenFaceColumns
from service.output.sink import Ending
from tests.service.fakes import face_at

LABELS = LABEL_SETS["ferplus"]


def face(track_id: int, level: float) -> FaceResult:
    probabilities = dict.fromkeys(LABELS, 0.0) | {"happiness": level, "contempt": 1 - level}
    units = {name: ActionUnit(level if name in ("AU1", "AU12") else 0.0, name == "AU12") for name in ACTION_UNITS}
    affect = Affect(level, -level, Expression("happiness", probabilities), units, ActionUnit(1 - level, level < 0.5))
    found = face_at(10.5 * track_id, 20, 40, 0.75)
    return FaceResult(track_id, found, head_pose(found.landmarks), affect, Quality(40, 0.5))


RESULTS = [
    FrameResult(0.0, 0, (face(1, 0.1 + 0.2),)),  # no short decimal
    FrameResult(0.1, 3, ()),
    FrameResult(0.2, 6, (face(2, 0.9), face(1, 0.6))),
]


def written(path: Path, columns: ColumnSet) -> Path:
    sink = CsvStream(columns)
    pieces = [
        sink.begin(MediaInfo(640, 480)),
        *map(sink.add, RESULTS),
        *sink.end(Ending(truncated=False, timings_s={})),
    ]
    path.write_bytes(b"".join(pieces))
    return path


def test_pandas_opens_it_without_options(tmp_path: Path) -> None:
    table = pd.read_csv(written(tmp_path / "native.csv", NativeColumns(TASKS, LABELS)))
    assert table["frame"].tolist() == [0, 3, 6, 6]
    assert table["time_s"].tolist() == [0.0, 0.1, 0.2, 0.2]
    with_faces = table.dropna()
    assert with_faces["track_id"].tolist() == [1, 2, 1]
    assert with_faces["valence"].tolist() == pytest.approx([0.1 + 0.2, 0.9, 0.6], abs=1e-15)
    assert with_faces["AU12"].tolist() == pytest.approx([0.1 + 0.2, 0.9, 0.6], abs=1e-15)
    assert with_faces["AU12_active"].tolist() == [1, 1, 1]
    assert with_faces["eyes_closed"].tolist() == pytest.approx([0.7, 0.1, 0.4])
    assert with_faces["eyes_closed_active"].tolist() == [1, 0, 0]
    assert with_faces["reliable"].tolist() == [1, 1, 1]
    assert with_faces["expression"].tolist() == ["happiness"] * 3
    assert with_faces["expression_contempt"].tolist() == pytest.approx([0.7, 0.1, 0.4])
    assert table.loc[table["frame"] == 3].dropna(axis=1).columns.tolist() == ["frame", "time_s"]
    assert table.select_dtypes("number").columns.tolist() == [
        name for name in table if name not in ("expression", "reasons")
    ]


def test_tasks_that_nobody_answers_have_no_columns() -> None:
    assert NativeColumns(["valence_arousal"], ()).names[-2:] == ["valence", "arousal"]
    assert not any(name.startswith("AU") for name in NativeColumns(["expression"], LABELS).names)


def test_pyfeat_opens_openfaces_columns(tmp_path: Path) -> None:
    from feat.utils.io import read_openface  # brings scikit-learn, XGBoost and torchvision

    table = read_openface(str(written(tmp_path / "openface.csv", OpenFaceColumns())))
    assert table["frame"].tolist() == [1, 4, 7, 7]  # counted from 1
    assert table["timestamp"].tolist() == [0.0, 0.1, 0.2, 0.2]
    assert table["success"].tolist() == [1, 0, 1, 1]
    assert table["face_id"].dropna().tolist() == [1, 2, 1]
    assert table["AU45_c"].dropna().tolist() == [1, 0, 0]
    units = table.aus
    assert units["AU12_c"].dropna().tolist() == [1, 1, 1]
    assert units["AU01_c"].dropna().tolist() == [0, 0, 0]
    assert units["AU12_r"].isna().all()  # a probability is no intensity
    assert table["AU12_p"].dropna().tolist() == pytest.approx([0.3, 0.9, 0.6])
    assert table.poses[["pose_Tx", "pose_Ty", "pose_Tz"]].isna().all(axis=None)


def test_pyfeat_opens_its_own_columns(tmp_path: Path) -> None:
    from feat.utils.io import read_feat

    table = read_feat(str(written(tmp_path / "fex.csv", FexColumns())))
    assert table.detector == "Detectorv2"
    assert table["frame"].tolist() == [0, 3, 6, 6]
    assert list(table.aus.columns) == [f"AU{int(unit[2:]):02d}" for unit in ACTION_UNITS]
    assert table.aus["AU12"].dropna().tolist() == pytest.approx([0.3, 0.9, 0.6])
    assert table.emotions["Happy"].dropna().tolist() == pytest.approx([0.3, 0.9, 0.6])
    assert table.faceboxes["FaceRectX"].dropna().tolist() == [10.5, 21.0, 10.5]
    assert table["valence"].dropna().tolist() == pytest.approx([0.3, 0.9, 0.6])
    assert table.poses[["X", "Y", "Z"]].isna().all(axis=None)


def posed(yaw: float, pitch: float, roll: float) -> FaceResult:
    """Return a face with this pose."""
    return replace(face(1, 0.5), pose=Pose(yaw, pitch, roll))


@pytest.mark.parametrize(
    ("pose", "openface", "fex"),
    [
        ((30, 0, 0), (0, -30, 0), (0, 0, -30)),
        ((0, 20, 0), (-20, 0, 0), (20, 0, 0)),
        ((0, 0, 10), (0, 0, 10), (0, -10, 0)),
        # OpenFace turns in another order: tan(Rx) = -tan(20) / cos(30), sin(Ry) = -sin(30) cos(20),
        # tan(Rz) = -tan(30) sin(20).
        ((30, 20, 0), (-22.796, -28.024, -11.170), (20, 0, -30)),
    ],
)
def test_poses_have_the_signs_of_their_programs(
    pose: tuple[float, float, float], openface: tuple[float, float, float], fex: tuple[float, float, float]
) -> None:
    result = posed(*pose)
    native = NativeColumns(TASKS, LABELS).face(result)
    assert [native[name] for name in ("yaw", "pitch", "roll")] == list(pose)
    cells = OpenFaceColumns().face(result)
    angles = [math.degrees(cells[name]) for name in ("pose_Rx", "pose_Ry", "pose_Rz")]
    assert angles == pytest.approx(openface, abs=0.01)
    cells = FexColumns().face(result)
    assert [math.degrees(cells[name]) for name in ("Pitch", "Roll", "Yaw")] == pytest.approx(fex, abs=0.01)
