"""The fit of poses, on drawn landmarks that follow known coefficients."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_core.faces.geometry import Frame
from model_core.faces.pose import Coefficients, Pose, UprightFace, pose_of
from training import pose
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.datasets.rendered import MANIFEST, RenderedPicture, as_json
from training.pose import PosedFace, errors, fit, render

TRUE = Coefficients(yaw=2.0, roll=0.5, pitch=np.array([-10.0, -4.0, 2.0, 1.0]))


def faces(count: int, split: Split = "train") -> list[PosedFace]:
    """Faces turned at random, whose poses follow TRUE."""
    rng = np.random.default_rng(3)
    measured = [UprightFace(*rng.normal((0, 21, 39, 29, 0), (6, 1, 1, 3, 0.3)).tolist()) for _ in range(count)]
    return [PosedFace(split, face, face.pose(TRUE)) for face in measured]


def test_known_coefficients_are_found() -> None:
    known = faces(120)
    fitted = fit(known)
    assert fitted.yaw == pytest.approx(TRUE.yaw)
    assert fitted.roll == pytest.approx(TRUE.roll)
    assert fitted.pitch == pytest.approx(TRUE.pitch)
    assert errors(known, fitted) == pytest.approx(np.zeros((120, 3)), abs=1e-9)


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(DatasetError, match="99 training faces were found"):
        fit(faces(99))


def test_errors_are_told_by_yaw() -> None:
    straight = UprightFace(0, 21, 39, 29, 0)
    estimated = straight.pose(TRUE)
    off = [
        PosedFace("test", straight, estimated._replace(yaw=-10)),
        PosedFace("test", straight, estimated._replace(yaw=12, pitch=estimated.pitch + 3)),
        PosedFace("test", straight, estimated._replace(yaw=40, roll=6)),
    ]
    assert render(off, TRUE) == [
        "  |yaw|      faces    yaw  pitch   roll",
        "  0 to 15        2   11.0    1.5    0.0",
        "  30 to 50       1   40.0    0.0    6.0",
        "  all            3   20.7    1.0    2.0",
    ]


def test_the_pose_in_the_picture_is_turned_back() -> None:
    face = UprightFace(0, 21, 39, 29, np.radians(30))
    assert face.upright_pose(Pose(0, 0, 30)) == pytest.approx((0, 0, 0), abs=1e-9)
    tilted = pose_of(Pose(0, 0, 30).matrix() @ Pose(20, -5, 2).matrix())
    assert face.upright_pose(tilted) == pytest.approx((20, -5, 2))


@pytest.fixture
def pictures(tmp_path: Path, astronaut: Frame) -> Path:
    """A folder with one photograph as if it had been rendered, tilted by 4 degrees to the person's right shoulder."""
    cv2.imwrite(str(tmp_path / "a.png"), astronaut[..., ::-1])
    picture = RenderedPicture(
        file="a.png",
        sitting=0,
        person="p",
        original="p",
        split="validation",
        model="ict",
        sex="female",
        age=40.0,
        age_group="adult",
        tone="light",
        kind="neutral",
        expression="neutral",
        strength=0.0,
        votes=(1.0,) + (0.0,) * 7,
        left=(0.0,) * 12,
        right=(0.0,) * 12,
        others={},
        yaw=8.0,
        pitch=3.0,
        roll=4.0,
        gaze=(0.0, 0.0),
        eyes_closed=0.0,
    )
    lines = [as_json(picture), as_json(replace(picture, split="train"))]
    (tmp_path / MANIFEST).write_text("".join(lines))
    return tmp_path


def test_rolls_are_told_clockwise(pictures: Path) -> None:
    found = pose.posed_faces(pictures, pose.build_detector("yuface"))
    assert [face.pose for face in found] == [Pose(8, 3, -4)] * 2
    assert [face.split for face in found] == ["validation", "train"]
    assert abs(np.degrees(found[0].face.turned)) < 15


def test_the_command_prints_both_fits(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [*faces(120), *faces(10, "validation")]
    monkeypatch.setattr(pose, "posed_faces", lambda root, detector: known)
    monkeypatch.setattr(sys, "argv", ["training.pose", "--root", str(pictures)])
    pose.main()
    printed = capsys.readouterr().out
    assert "yaw=2.000, roll=0.500, pitch=[-10.000, -4.000, 2.000, 1.000]" in printed
    assert "validation, fitted coefficients" in printed
    assert "validation, included coefficients" in printed
