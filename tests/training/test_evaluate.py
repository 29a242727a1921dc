import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training import evaluate


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.evaluate", *map(str, arguments)])
    evaluate.main()


def strictly(text: str) -> Any:
    """JSON without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_run_is_measured_on_the_whole_split(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    command(monkeypatch, "--model", finished.folder, "--prepared", finished.prepared, "--out", out)
    report = strictly(out.read_text())
    assert report["faces"]["split"] == "test"
    assert (report["faces"]["count"], report["faces"]["found"]) == (8, 7)
    assert report["expression"]["count"] == 8
    assert report["expression"]["accuracy"] <= 7 / 8
    assert "ferplus test: 7 of 8 faces found" in capsys.readouterr().out


def test_a_bundle_is_measured_too(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=0, validation=1, test=2, side=112)
    command(monkeypatch, "--model", tiny_bundle_dir, "--prepared", prepared)
    assert "ferplus test: 2 of 2 faces found" in capsys.readouterr().out


def test_other_crops_are_refused(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=0, validation=1, test=1)
    info = json.loads((prepared / "prepared.json").read_text())
    for change, message in (
        ({"alignment": "ddamfn-frontal-1"}, "the network wants alignment arcface-1, not ddamfn-frontal-1"),
        ({"label_set": "affectnet8"}, "the network's labels are"),
    ):
        (prepared / "prepared.json").write_text(json.dumps({**info, **change}))
        with pytest.raises(SystemExit, match=f"error: {message}"):
            command(monkeypatch, "--model", finished.folder, "--prepared", prepared)


def test_no_model(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: no bundle 'nowhere'"):
        command(monkeypatch, "--model", "nowhere", "--prepared", finished.prepared)
