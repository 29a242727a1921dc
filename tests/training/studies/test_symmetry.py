import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from model_core.calibration import Calibration
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.runs.trained import load_evaluable
from training.studies import symmetry
from training.studies.symmetry import by_name, found_faces, mirrored, shifted, study


@pytest.fixture
def faces(tmp_path: Path) -> PreparedFaces:
    """Six found faces in memory, with crops of 112 pixels."""
    prepared = load_prepared(write_prepared(tmp_path / "p", train=0, validation=7, test=0, side=112, missing=[3]))
    return found_faces(prepared, prepared.indices("validation"), None, seed=0)


def test_faces_that_were_not_found_are_left_out(faces: PreparedFaces) -> None:
    assert faces.names.tolist() == [f"face{i}.png" for i in (0, 1, 2, 4, 5, 6)]
    few = found_faces(faces, np.arange(6), 2, seed=1)
    assert len(few) == len(few.crops) == 2
    with pytest.raises(DatasetError, match="no face that was found"):
        found_faces(replace(faces, found=np.zeros(6, dtype=bool)), np.arange(6), None, seed=0)


def test_a_mirror_image_swaps_the_sides(faces: PreparedFaces) -> None:
    assert np.array_equal(mirrored(faces).crops[2, :, 0], faces.crops[2, :, -1])
    assert np.array_equal(mirrored(mirrored(faces)).crops, faces.crops)


def test_a_shift_has_its_distance_and_replicates_the_edge(faces: PreparedFaces) -> None:
    crops = np.zeros((40, 112, 112, 3), dtype=np.uint8)
    crops[:, 55:58, 55:58] = 200
    dots = replace(faces, crops=crops)
    y, x = np.mgrid[:112, :112]
    for distance in (1, 8):
        moved = shifted(dots, distance, seed=0).crops[..., 0].astype(float)
        centres = [((x * dot).sum() / dot.sum() - 56, (y * dot).sum() / dot.sum() - 56) for dot in moved]
        assert np.hypot(*np.transpose(centres)) == pytest.approx(distance, abs=0.1)
        assert np.std(np.arctan2(*np.transpose(centres))) > 1  # all around
    white = replace(faces, crops=np.full((2, 112, 112, 3), 255, dtype=np.uint8))
    assert (shifted(white, 8, seed=0).crops == 255).all()


def test_mean_changes_by_name() -> None:
    changes = {"valence_arousal": np.array([[0.1, 0.0], [0.3, 0.5]]), "expression": np.array([[1.0, 0.0], [0.0, 0.0]])}
    means = by_name(changes, ("neutral", "happiness"))
    assert means["valence_arousal"] == pytest.approx({"valence": 0.2, "arousal": 0.25})
    assert means["expression"] == {"neutral": 0.5, "happiness": 0}


def test_symmetric_faces_have_no_change_under_mirroring(finished: FinishedRun, faces: PreparedFaces) -> None:
    half = faces.crops[:, :, :56]
    even = replace(faces, crops=np.concatenate([half, half[:, :, ::-1]], axis=2))
    result = study(load_evaluable(finished.folder), even)
    assert max(result["mirror"]["action_units"].values()) == 0
    assert result["mirror"]["valence_arousal"] == {"valence": 0, "arousal": 0}
    assert set(result["flips"]["mirror"].values()) == {0.0}
    assert result["shift"]["valence_arousal"]["valence"] > 0


def test_a_difference_by_hand(finished: FinishedRun, faces: PreparedFaces, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluable = load_evaluable(finished.folder)

    def left_half(images: torch.Tensor) -> _Logits:
        """Valence is the brightness of the left half, in [0, 1]."""
        left = images[..., : images.shape[-1] // 2].mean(dim=(1, 2, 3)) * 0.25 + 0.5
        return _Logits(torch.stack([left, 0 * left], dim=1))

    crops = np.zeros((6, 112, 112, 3), dtype=np.uint8)
    crops[:3, :, :56] = 255
    half_lit = replace(faces, crops=crops)
    monkeypatch.setattr(evaluable.network, "forward", left_half)
    result = study(replace(evaluable, calibration=Calibration()), half_lit)
    # Of three faces valence is 1, of their mirror images 0; the other three are dark.
    assert result["mirror"] == {"valence_arousal": pytest.approx({"valence": 0.5, "arousal": 0}, abs=1e-3)}
    assert "flips" not in result


class _Logits:
    def __init__(self, valence_arousal: torch.Tensor) -> None:
        self.valence_arousal = valence_arousal


def test_the_command(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.json"
    arguments = ["--model", finished.folder, "--prepared", finished.prepared, "--out", out]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments)])
    symmetry.main()
    result = json.loads(out.read_text())
    assert result["faces"] == {"dataset": "ferplus", "split": "validation", "count": 7, "seed": 0}
    assert list(result["mirror"]["action_units"]) == list(ACTION_UNITS)
    assert all(0 < value < 1 for value in result["mirror"]["action_units"].values())
    assert "ferplus validation: 7 faces found" in capsys.readouterr().out
