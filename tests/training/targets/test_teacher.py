import zipfile
from pathlib import Path

import numpy as np
import pytest

from model_core.faces.detection import build_detector
from model_core.faces.geometry import Face, Frame
from tests.fakes import face_at
from training.targets.derived import action_units
from training.targets.teacher import (
    BLENDSHAPES,
    CROP_PX,
    BlendshapeTeacher,
    TeacherError,
    TeacherReading,
    _crop_matrix,
)

TASK = Path(__file__).parents[3].parent / "shared" / "data" / "models" / "face_landmarker.task"


@pytest.fixture(scope="module")
def teacher() -> BlendshapeTeacher:
    if not TASK.is_file():
        pytest.skip("../shared/data/models/face_landmarker.task is absent")
    pytest.importorskip("ai_edge_litert", reason="the extra `train` is not installed")
    return BlendshapeTeacher(TASK)


@pytest.fixture(scope="module")
def face(astronaut: Frame) -> Face:
    return build_detector("yuface").detect(astronaut)[0]


@pytest.fixture(scope="module")
def smile(teacher: BlendshapeTeacher, astronaut: Frame, face: Face) -> TeacherReading:
    reading = teacher.read(astronaut, face)
    assert reading is not None
    return reading


def test_the_astronaut_smiles(smile: TeacherReading) -> None:
    score = dict(zip(BLENDSHAPES, smile.blendshapes.tolist(), strict=True))
    assert score["mouthSmileLeft"] > 0.5
    assert score["mouthSmileRight"] > 0.5
    assert score["mouthFrownLeft"] < 0.1
    assert score["jawForward"] < 0.1


def test_a_smile_becomes_action_units(smile: TeacherReading) -> None:
    units = action_units(smile)
    assert units[6] > 0.5  # AU12
    assert units[10] > 0.3  # AU25: her teeth show


def test_scores_are_in_range(smile: TeacherReading) -> None:
    assert (smile.blendshapes.shape, smile.blendshapes.dtype) == ((52,), np.float32)
    assert ((smile.blendshapes >= 0) & (smile.blendshapes <= 1)).all()
    assert (smile.landmarks.shape, smile.landmarks.dtype) == ((146, 2), np.float32)
    assert 0 < smile.lip_gap < 0.5


def test_landmarks_are_pixels_of_the_frame(smile: TeacherReading, face: Face) -> None:
    box, middle = face.box, smile.landmarks.mean(axis=0)
    assert abs(middle[0] - (box.x + box.width / 2)) < box.width / 5
    assert abs(middle[1] - (box.y + box.height / 2)) < box.height / 5
    assert 0.6 < np.ptp(smile.landmarks[:, 0]) / box.width < 1.4


def test_reading_again_gives_the_same(teacher: BlendshapeTeacher, astronaut: Frame, face: Face) -> None:
    first, second = (teacher.read(astronaut, face) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.blendshapes, second.blendshapes)


def test_no_face_no_reading(teacher: BlendshapeTeacher) -> None:
    assert teacher.read(np.zeros((200, 200, 3), dtype=np.uint8), face_at(50, 50, 80)) is None


def test_there_are_52_different_scores() -> None:
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == 52


def test_the_teachers_crop_by_hand() -> None:
    # A level face with a box of 100 at (30, 40): 150 pixels around (80, 90) become 256.
    matrix = _crop_matrix(face_at(30, 40, 100))
    corner, middle = (matrix @ [x, y, 1] for x, y in ((80 - 75, 90 - 75), (80, 90)))
    np.testing.assert_allclose(corner, [0, 0], atol=1e-9)
    np.testing.assert_allclose(middle, [CROP_PX / 2] * 2, atol=1e-9)


def with_networks(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("face_landmarks_detector", "face_blendshapes"):
            archive.writestr(f"{name}.tflite", content)
    return path


def test_a_teacher_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra `train` is not installed")
    (tmp_path / "page.task").write_text("<html>Not found</html>")
    (tmp_path / "noise.task").write_text("noise")
    (tmp_path / "other.task").write_bytes(with_networks(tmp_path / "other.zip", b"").read_bytes()[:-4])
    networks = with_networks(tmp_path / "networks.task", b"no networks")
    for path, message in (
        (tmp_path / "none.task", r"none\.task cannot be read \(No such file or directory\)"),
        (tmp_path, "cannot be read"),
        (tmp_path / "page.task", r"page\.task is a web page \(HTML\)"),
        (tmp_path / "noise.task", "is not MediaPipe's face_landmarker"),
        (tmp_path / "other.task", "is not MediaPipe's face_landmarker"),
        (networks, "holds networks that cannot be loaded"),
    ):
        with pytest.raises(TeacherError, match=message) as caught:
            BlendshapeTeacher(path)
        assert "\n" not in str(caught.value)
