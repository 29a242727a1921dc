import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.faces.geometry import Frame
from tests.fakes import small_grey_face, write_ferplus
from tests.training.conftest import FinishedRun
from training.data.prepared import load_prepared
from training.datasets import DatasetError
from training.studies import reasons
from training.studies.reasons import compared, cut, disturbed, looking_away, render
from training.studies.robustness import chosen_faces


def test_the_whole_study(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reasons.json"
    arguments = ["--model", finished.folder, "--prepared", finished.prepared, "--out", out]
    monkeypatch.setattr(sys, "argv", ["training.studies.reasons", *map(str, arguments)])
    reasons.main()
    result = json.loads(out.read_text())
    assert set(result["reasons"]) == {"small", "blurred", "noisy", "outside"}
    counts = {name: row["with"]["count"] + row["without"]["count"] for name, row in result["reasons"].items()}
    assert counts == {"small": 7 * 5, "blurred": 7 * 10, "noisy": 7 * 5, "outside": 7 * 5}
    # Of the levels 48, 32, 24, 20 and 16 pixels the last two are below the limit.
    assert result["reasons"]["small"]["with"]["count"] == 7 * 2
    assert "ferplus validation: 7 faces that have a majority" in capsys.readouterr().out


def test_cutting_by_hand() -> None:
    crop = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((10, 10, 3), dtype=np.uint8)
    upper, _ = cut(crop, 0.3, 0, "arcface-1")
    assert upper[:, 0, 0].tolist() == [3, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    lower, _ = cut(crop, 0.3, 2, "arcface-1")
    assert lower[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
    across = crop.transpose(1, 0, 2)
    left, _ = cut(across, 0.3, 1, "arcface-1")
    assert left[0, :, 0].tolist() == [3, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    right, _ = cut(across, 0.3, 3, "arcface-1")
    assert right[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]


@pytest.mark.parametrize("side", range(4))
def test_half_a_face_is_outside_and_a_tenth_is_not(side: int) -> None:
    crop = np.zeros((112, 112, 3), dtype=np.uint8)
    assert [cut(crop, share, side, "arcface-1")[1] for share in (0.1, 0.5)] == [False, True]


def test_each_reason_gets_its_disturbance(finished: FinishedRun) -> None:
    faces = load_prepared(finished.prepared)
    chosen = chosen_faces(faces, faces.indices("validation"), 4, seed=0)
    flat = replace(chosen, crops=np.full((4, 112, 112, 3), 120, dtype=np.uint8))
    versions = [{reason: flags.all() for reason, flags in flagged.items()} for _, flagged in disturbed(flat, 0)]
    assert len(versions) == 20
    assert all(version.get("blurred", True) for version in versions)
    # The noise has 5, 10, 20, 30 and 45 grey levels, of which the last three are above the limit.
    assert [version["noisy"] for version in versions if "noisy" in version] == [False, False, True, True, True]
    assert [version["small"] for version in versions if "small" in version] == [False, False, False, True, True]


def test_faces_are_compared() -> None:
    flagged = np.array([True, True, False, False, False])
    right = np.array([True, False, True, True, True])
    row = compared(flagged, right)
    assert row == {"with": {"count": 2, "accuracy": 0.5}, "without": {"count": 3, "accuracy": 1.0}}
    nobody = compared(np.zeros(5, dtype=bool), right)
    assert nobody["with"] == {"count": 0, "accuracy": None}
    faces = {"dataset": "ferplus", "split": "test", "count": 5}
    table = render({"faces": faces, "clean": 0.8, "reasons": {"noisy": row | {"false_alarms": 0.01}, "small": nobody}})
    assert table.splitlines()[2:] == [
        "reason        with  accuracy  without  accuracy  false alarms",
        "noisy            2     0.500        3     1.000        0.0100",
        "small            0         -        5     0.800",
    ]


def test_faces_are_found_again_in_their_pictures(finished: FinishedRun, tmp_path: Path, astronaut: Frame) -> None:
    faces = load_prepared(finished.prepared)
    chosen = chosen_faces(faces, faces.indices("validation"), 2, seed=0)
    picture = small_grey_face(astronaut)
    pictures = [("FER2013Valid", name, picture, (0, 10) + (0,) * 8) for name in chosen.names.tolist()]
    seen, away = looking_away(chosen, write_ferplus(tmp_path / "all", pictures))
    assert seen.all()
    assert not away.any()
    with pytest.raises(DatasetError, match="has no picture face"):
        looking_away(chosen, write_ferplus(tmp_path / "one", pictures[:1]))
