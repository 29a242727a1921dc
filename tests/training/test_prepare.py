import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_core.faces.alignment import align
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Frame
from tests.fakes import small_grey_face, write_ferplus
from tests.training.measuring.pictures import picture as rendered_picture
from tests.training.trees import affectnet_csv, picture, rafdb
from training import prepare
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import build_reader
from training.datasets.rendered import MANIFEST, as_json
from training.targets.teacher import BLENDSHAPES

HAPPY = [1, 9, 0, 0, 0, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def root(astronaut: Frame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    face, blank = small_grey_face(astronaut), np.full((48, 48), 90, np.uint8)
    # Lit from one side, the mirror image is not a twin of the face: they correlate by 0.85.
    mirrored = (cv2.flip(face, 1) * np.linspace(0.3, 1, 48)).astype(np.uint8)
    rows = [
        ("FER2013Train", "face.png", face, HAPPY),
        ("FER2013Train", "blank.png", blank, [0, 0, 0, 0, 0, 0, 0, 0, 2, 8]),
        ("FER2013Test", "mirrored.png", mirrored, HAPPY),
    ]
    return write_ferplus(tmp_path_factory.mktemp("raw") / "ferplus", rows)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.prepare", *map(str, arguments)])
    prepare.main()


@pytest.fixture(scope="module")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedFaces:
    """What the real command makes, its worker process included."""
    out = tmp_path_factory.mktemp("out") / "prepared"
    with pytest.MonkeyPatch.context() as monkeypatch:
        command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", out, "--size", 64, "--workers", 1)
    assert [path.name for path in out.parent.iterdir()] == ["prepared"]
    return load_prepared(out)


def test_how_it_was_made_is_recorded(prepared: PreparedFaces) -> None:
    info = prepared.info
    assert (info.dataset, info.label_set, info.alignment, info.size) == ("ferplus", "ferplus", "arcface-1", 64)
    assert info.detector == build_detector("yuface").name
    assert not info.derived


def test_faces_are_found_and_blanks_are_not(prepared: PreparedFaces) -> None:
    assert prepared.names.tolist() == ["face.png", "blank.png", "mirrored.png"]
    assert prepared.splits.tolist() == ["train", "train", "test"]
    assert prepared.found.tolist() == [True, False, True]
    assert (prepared.crops[1] == 0).all()


def test_without_a_teacher_only_votes_are_targets(prepared: PreparedFaces) -> None:
    assert prepared.votes.tolist() == [HAPPY[:8], [0] * 8, HAPPY[:8]]
    assert not prepared.derived.any()
    assert not prepared.action_units.any()
    assert not prepared.valence_arousal.any()


def test_sets_without_annotations_are_as_ever(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--size", 32)
    fields = ["dataset", "label_set", "alignment", "size", "detector", "min_confidence", "derived"]
    assert list(json.loads((tmp_path / "out/prepared.json").read_text())) == [*fields, "twin_correlation", "format"]
    with np.load(tmp_path / "out/faces.npz") as archive:
        assert archive.files == ["names", "splits", "found", "votes", "derived", "action_units", "valence_arousal"]


def test_twins_of_later_splits_are_left_out_counted_and_told(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    face = small_grey_face(astronaut)
    darker, blank = (face * 0.8 + 9).astype(np.uint8), np.full((48, 48), 90, np.uint8)
    rows = [
        ("FER2013Train", "mirrored.png", cv2.flip(face, 1), HAPPY),
        ("FER2013Train", "upside_down.png", cv2.flip(face, 0), HAPPY),
        ("FER2013Train", "blank.png", blank, HAPPY),
        ("FER2013Train", "darker.png", darker, HAPPY),
        ("FER2013Valid", "darker_too.png", darker, HAPPY),
        ("FER2013Test", "face.png", face, HAPPY),
        ("FER2013Test", "again.png", face, HAPPY),
    ]
    root = write_ferplus(tmp_path / "ferplus", rows)
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--size", 32)
    told = "left out as twins of a later split's, from a correlation of 0.92 on: 2 training and 1 validation pictures"
    assert capsys.readouterr().out.endswith(f"{told}\n")
    faces = load_prepared(tmp_path / "out")
    assert faces.names.tolist() == ["upside_down.png", "blank.png", "face.png", "again.png"]
    assert (faces.info.twin_correlation, faces.info.training_twins, faces.info.validation_twins) == (0.92, 2, 1)
    again = ("--out", tmp_path / "identical", "--size", 32, "--twin-correlation", 1)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, *again)
    kept = ["upside_down.png", "blank.png", "darker_too.png", "face.png", "again.png"]
    assert load_prepared(tmp_path / "identical").names.tolist() == kept


def test_annotated_valence_arousal_is_carried_through(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["1/a.jpg,178,63,89,112,,1,0.75,-0.5", "1/b.jpg,0,0,9,9,,8,-2,-2"]
    root = affectnet_csv(tmp_path / "affectnet", rows)
    picture(root / "Manually_Annotated_Images/1/a.jpg", cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR))
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "affectnet", "--root", root, "--out", tmp_path / "out", "--size", 32)
    assert "1 of 3 faces found, 0 with derived targets, 2 with annotated valence-arousal" in capsys.readouterr().out
    faces = load_prepared(tmp_path / "out")
    assert (faces.info.label_set, faces.info.annotators, faces.info.annotated) == ("affectnet8", 1, True)
    assert faces.splits.tolist() == ["train", "train", "test"]
    assert faces.found.tolist() == [True, False, False]
    assert faces.majority.tolist() == [1, -1, 0]  # happiness, none, neutral
    assert faces.with_valence_arousal.tolist() == [True, False, True]
    assert faces.valence_arousal.tolist() == [[0.75, -0.5], [0, 0], [0, 0]]
    assert not faces.derived.any()


def test_faces_that_fill_their_pictures_are_found(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = rafdb(tmp_path / "rafdb", "train_00001.jpg 4", "train_00009.jpg 1", "test_0001.jpg 7")
    face = cv2.resize(cv2.cvtColor(astronaut[60:180, 165:285], cv2.COLOR_RGB2BGR), (100, 100))
    for path in (root / "Image" / "aligned").iterdir():
        picture(path, face)
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "rafdb", "--root", root, "--out", tmp_path / "out", "--size", 32)
    faces = load_prepared(tmp_path / "out")
    assert faces.found.all()
    assert faces.splits.tolist() == ["train", "validation", "test"]
    assert [faces.info.labels[i] for i in faces.majority] == ["happiness", "surprise", "neutral"]
    assert (faces.info.annotated, faces.with_valence_arousal.any()) == (False, False)


def test_a_set_without_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_ferplus(tmp_path / "ferplus", [])
    with pytest.raises(SystemExit, match=r"error: .*ferplus has no pictures"):
        command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out")


def test_crops_are_the_services_own(prepared: PreparedFaces, root: Path) -> None:
    reader, detector = build_reader("ferplus"), build_detector("yuface")
    for record, crop in zip(reader.faces(root), prepared.crops, strict=True):
        frame = reader.load(record)
        faces = detector.detect(frame)
        if faces:
            assert np.array_equal(align(frame, faces[0].landmarks, "arcface-1", 64), crop)


def test_an_existing_folder_is_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: .* exists; choose another folder"):
        command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_wrong_tree_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: FER\+ expects .*FER2013Train/label\.csv"):
        command(monkeypatch, "--dataset", "ferplus", "--root", tmp_path, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("detector", "message"),
    [("eagle", "unknown face detector 'eagle'"), ("yunet:/no/such.onnx", "cannot be read: No such file")],
)
def test_a_wrong_detector_is_refused_before_any_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detector: str, message: str
) -> None:
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--detector", detector)
    assert list(tmp_path.iterdir()) == []


def in_this_process(options: prepare.PrepareOptions, records: list, workers: int) -> object:
    prepare._Worker.start(options)
    return map(prepare._Worker.run, records)


def test_a_missing_picture_leaves_nothing_half_written(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = small_grey_face(astronaut)
    rows = [("FER2013Train", "a.png", face, HAPPY), ("FER2013Train", "gone.png", face, HAPPY)]
    root = write_ferplus(tmp_path / "ferplus", rows)
    (root / "FER2013Train" / "gone.png").unlink()
    monkeypatch.setattr(prepare, "_results", in_this_process)
    with pytest.raises(SystemExit, match=r"error: FER\+ image is missing or unreadable: .*gone\.png"):
        command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ferplus"]


def test_what_a_killed_run_left_is_replaced(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "crops.npy").write_text("half")
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--size", 32)
    assert load_prepared(tmp_path / "out").found.sum() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_with_the_teacher_everything_is_a_target(
    root: Path, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = shared_data / "models" / "face_landmarker.task"
    if not task.is_file():
        pytest.skip("../shared/data/models/face_landmarker.task is absent")
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--teacher", task)
    faces = load_prepared(tmp_path / "out")
    assert faces.info.derived
    assert faces.derived.tolist() == [True, False, True]
    assert (faces.action_units[[0, 2], 6] > 0.3).all()  # AU12: she smiles
    assert faces.blendshapes is not None
    assert faces.landmarks is not None
    assert (faces.blendshapes[[0, 2], BLENDSHAPES.index("mouthSmileLeft")] > 0.3).all()
    assert (faces.landmarks[1] == 0).all()
    # The third picture is the first one's mirror image, and read 320 pixels wide: their means lie around the middle.
    assert abs(faces.landmarks[[0, 2], :, 0].mean() - 159.5) < 3
    # Nine of ten votes for happiness, and the only training face sets the strength's reference: 1.
    np.testing.assert_allclose(faces.valence_arousal[0], [0.9 * 0.81, 0.9 * 0.51], atol=1e-6)
    assert (faces.valence_arousal[1] == 0).all()


class Absent:
    """A teacher for sets of which no picture gets to it."""

    def __init__(self, path: Path) -> None:
        pass


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["FER2013Test"], "ferplus has no training pictures"),
        (["FER2013Train", "FER2013Train", "FER2013Test"], "no face was read in any of the 2 training pictures of .*"),
    ],
)
def test_derived_targets_without_training_faces_are_refused(
    splits: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = np.full((48, 48), 90, np.uint8)
    root = write_ferplus(tmp_path / "ferplus", [(split, f"{i}.png", blank, HAPPY) for i, split in enumerate(splits)])
    monkeypatch.setattr(prepare, "_results", in_this_process)
    monkeypatch.setattr(prepare, "BlendshapeTeacher", Absent)
    (tmp_path / "teacher.task").touch()
    arguments = (
        "--dataset",
        "ferplus",
        "--root",
        root,
        "--out",
        tmp_path / "out",
        "--teacher",
        tmp_path / "teacher.task",
    )
    with pytest.raises(SystemExit, match=f"error: .*{message}: valence-arousal is derived relative to the training"):
        command(monkeypatch, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ferplus", "teacher.task"]


def test_a_set_without_training_faces_says_so(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_ferplus(tmp_path / "ferplus", [("FER2013Test", "a.png", small_grey_face(astronaut), HAPPY)])
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "ferplus", "--root", root, "--out", tmp_path / "out", "--size", 32)
    assert "no face is a training face: the set can be measured on, not trained on" in capsys.readouterr().out


def test_a_rendered_set_keeps_the_table_of_its_pictures(
    astronaut: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "renders"
    shown = [rendered_picture(0, 0), rendered_picture(0, 1, {"AU1": 0.75}, yaw=12.5)]
    for each in shown:
        (root / each.file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / each.file), astronaut[40:230, 130:320, ::-1])
    (root / MANIFEST).write_text("".join(map(as_json, shown)))
    monkeypatch.setattr(prepare, "_results", in_this_process)
    command(monkeypatch, "--dataset", "rendered", "--root", root, "--out", tmp_path / "out", "--size", 32)
    assert (tmp_path / "out" / MANIFEST).read_bytes() == (root / MANIFEST).read_bytes()
    faces = load_prepared(tmp_path / "out")
    assert faces.names.tolist() == [f"anna/{each.file}" for each in shown]
    assert faces.action_units[1].tolist() == [0.75, *[0] * 11]
    assert faces.found.all()
    assert faces.info.rendered
