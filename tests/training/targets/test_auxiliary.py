import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes import write_prepared
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.runs.config import AuxiliaryLoss
from training.targets.auxiliary import OUTPUTS, AuxiliaryTargets, auxiliary_targets
from training.targets.shape import COMPONENTS
from training.targets.teacher import BLENDSHAPES

LEFT, RIGHT = BLENDSHAPES.index("mouthSmileLeft"), BLENDSHAPES.index("mouthSmileRight")
ROWS = np.arange(4)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> PreparedFaces:
    return load_prepared(write_prepared(tmp_path_factory.mktemp("auxiliary") / "prepared", missing=[2]))


def targets_of(faces: PreparedFaces, **weights: float) -> AuxiliaryTargets:
    return auxiliary_targets(faces, faces.indices("train"), AuxiliaryLoss(**weights))


def test_sides_change_in_the_mirror(faces: PreparedFaces) -> None:
    plain, mirrored = targets_of(faces).values
    assert plain.shape == mirrored.shape == (len(faces), OUTPUTS)
    assert np.array_equal(mirrored[:, [LEFT, RIGHT]], plain[:, [RIGHT, LEFT]])
    assert np.array_equal(mirrored[:, 0], plain[:, 0])  # _neutral
    assert not np.allclose(mirrored[:, 52:], plain[:, 52:], atol=0.1)


def test_what_is_known_has_no_loss(faces: PreparedFaces) -> None:
    targets = targets_of(faces, shape=1)
    mirrored = np.array([False, True, True, False])
    outputs = torch.from_numpy(targets.values[mirrored.astype(int), ROWS])
    assert targets.loss(outputs, ROWS, mirrored) == 0
    assert targets.loss(outputs, ROWS, ~mirrored) > 0.1


def test_losses_by_hand(faces: PreparedFaces) -> None:
    straight = np.zeros(4, bool)
    # Logits of 0 have a cross-entropy of log 2 to whatever target; record 2 was not read, and counts nowhere.
    scores = targets_of(faces, blendshapes=3).loss(torch.zeros(4, OUTPUTS), ROWS, straight)
    assert scores == pytest.approx(3 * math.log(2), rel=1e-6)
    targets = targets_of(faces, shape=2)
    assert targets.emphasis.mean() == pytest.approx(1)
    off = torch.from_numpy(targets.values[0, ROWS]).clone()
    off[:, 52:] += 0.5
    off[2] = 1000
    assert targets.loss(off, ROWS, straight) == pytest.approx(2 * 0.25, rel=1e-4)


def test_faces_that_were_not_read_have_no_loss(faces: PreparedFaces) -> None:
    loss = targets_of(faces, blendshapes=1, shape=1).loss(torch.ones(1, OUTPUTS), np.array([2]), np.array([True]))
    assert loss == 0


def test_the_least_component_counts_less_than_the_largest_but_not_by_its_variance(faces: PreparedFaces) -> None:
    emphasis = targets_of(faces).emphasis
    assert (emphasis.shape, emphasis.argmax()) == ((COMPONENTS,), 0)


def test_a_set_without_readings_is_refused(faces: PreparedFaces, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="need a set prepared with --teacher, by this version or a later one"):
        targets_of(replace(faces, landmarks=None))
    with pytest.raises(DatasetError, match="auxiliary targets: shapes need landmarks of two faces at least, not of 0"):
        auxiliary_targets(faces, np.array([2]), AuxiliaryLoss())
