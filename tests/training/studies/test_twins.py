import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.studies import twins


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training faces, and two test faces of which the first shows a training face."""
    for folder, seeds in {"FER2013Train": (1, 2), "FER2013Valid": (3,), "FER2013Test": (2, 4)}.items():
        rows = []
        for number, seed in enumerate(seeds):
            picture(tmp_path / folder / f"{number}.png", seed)
            rows.append(f'{number}.png,"(0, 0, 48, 48)",10,0,0,0,0,0,0,0,0,0')
        (tmp_path / folder / "label.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_table_names_test_pictures_that_were_trained_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "twins.csv"
    monkeypatch.setattr(sys, "argv", ["twins", "--root", str(root), "--out", str(out)])
    twins.main()
    with out.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["twin"] for row in rows] == ["yes", "no"]
    assert [Path(row["name"]).name for row in rows] == ["0.png", "1.png"]
    assert "1 of 2 test pictures have a twin in an earlier split" in capsys.readouterr().out


def test_a_missing_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["twins", "--root", str(tmp_path), "--out", str(tmp_path / "twins.csv")])
    with pytest.raises(SystemExit, match=r"error: FER\+ expects"):
        twins.main()
    assert not (tmp_path / "twins.csv").exists()
