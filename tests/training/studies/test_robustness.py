import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training.data.perturbations import perturbations
from training.data.prepared import load_prepared
from training.studies import robustness
from training.studies.robustness import by_sharpness, chosen_faces, perturbed


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.studies.robustness", *map(str, arguments)])
    robustness.main()


def test_the_whole_study(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "robustness.json"
    arguments = ["--model", finished.folder, "--prepared", finished.prepared, "--out", out, "--plots", tmp_path / "p"]
    command(monkeypatch, *arguments)
    result = json.loads(out.read_text())
    assert result["faces"] == {"dataset": "ferplus", "split": "validation", "count": 7, "seed": 0}
    assert set(result["perturbations"]) == set(perturbations("arcface-1"))
    for curve in result["perturbations"].values():
        assert len(curve["levels"]) == len(curve["accuracy"]) == len(curve["ece"]) == 5
        assert all(0 <= value <= 1 for value in curve["accuracy"] + curve["ece"])
    assert sum(row["count"] for row in result["sharpness"]["clean"]) == 7
    assert sum(row["count"] for row in result["sharpness"]["resolution and blur"]) == 7 * 11
    assert "ferplus validation: 7 faces found that have a majority" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "p" / "robustness.png")) is not None


def test_faces_are_found_labelled_and_limited(finished: FinishedRun) -> None:
    faces = load_prepared(finished.prepared)
    chosen = chosen_faces(faces, faces.indices("validation"), 4, seed=0)
    assert len(chosen) == 4
    assert chosen.found.all()
    assert set(chosen.names) <= {f"face{i}.png" for i in range(32, 40) if i != 33}
    assert chosen_faces(faces, faces.indices("validation"), 4, seed=0).names.tolist() == chosen.names.tolist()


def test_the_same_chance_at_every_strength(finished: FinishedRun) -> None:
    faces = load_prepared(finished.prepared)
    chosen = chosen_faces(faces, faces.indices("validation"), None, seed=0)
    square = perturbations("arcface-1")["occlusion_random"]
    weak, strong = (perturbed(chosen, square, strength, seed=7).crops for strength in (1, 5))
    # Corners of 7 and of 20 px of 32 at the same relative place: the small square lies within the large one.
    for crop, small, large in zip(chosen.crops, weak, strong, strict=True):
        assert ((small == crop) | (large == 128)).all()
    assert np.array_equal(perturbed(chosen, square, 5, seed=7).crops, strong)


def test_a_table_by_sharpness(finished: FinishedRun) -> None:
    class Run:
        sharpness = np.array([0.001, 0.004, 0.35, 0.39, 0.95])
        correct = np.array([False, True, True, True, False])

    assert by_sharpness([Run()]) == [
        {"from": 0.0, "to": 0.005, "count": 2, "accuracy": 0.5},
        {"from": 0.3, "to": 0.4, "count": 2, "accuracy": 1.0},
        {"from": 0.9, "to": 1.0, "count": 1, "accuracy": 0.0},
    ]


def test_mistakes_end_the_command_with_one_line(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="error: there is no bundle 'nowhere'"):
        command(monkeypatch, "--model", "nowhere", "--prepared", finished.prepared)
    with pytest.raises(SystemExit):
        command(monkeypatch, "--prepared", finished.prepared, "--limit", 0)
    empty = write_prepared(tmp_path / "empty", train=0, validation=1, test=0, missing=[0])
    with pytest.raises(SystemExit, match="error: the split has no face that was found and has a majority"):
        command(monkeypatch, "--model", finished.folder, "--prepared", empty)
