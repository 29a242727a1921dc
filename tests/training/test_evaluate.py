import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from tests.training.measuring.pictures import picture, write_rendered
from training import evaluate
from training.datasets.rendered import MANIFEST


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
    arguments = ["--model", finished.folder, "--prepared", finished.prepared, "--resamples", 10]
    command(monkeypatch, *arguments, "--out", out)
    report = strictly(out.read_text())
    assert report["faces"]["split"] == "test"
    assert (report["faces"]["count"], report["faces"]["found"]) == (8, 7)
    assert report["expression"]["count"] == 8
    assert report["expression"]["accuracy"] <= 7 / 8
    low, high = report["intervals"]["expression"]["accuracy"]
    assert 0 <= low <= report["expression"]["accuracy"] <= high <= 1
    assert set(report["intervals"]["expression"]) <= set(report["expression"])
    text = capsys.readouterr().out
    assert "ferplus test: 7 of 8 faces found" in text
    accuracy = report["expression"]["accuracy"]
    assert f"  accuracy                  {accuracy:.4f}  [{low:.4f}, {high:.4f}]" in text


def test_groups_and_pictures(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("name,age\n" + "".join(f"face{i}.png,{'young' if i % 2 else 'old'}\n" for i in range(40, 48)))
    arguments = ["--model", finished.folder, "--prepared", finished.prepared, "--resamples", 0, "--groups", table]
    command(monkeypatch, *arguments, "--group-by", "age", "--out", tmp_path / "r.json", "--plots", tmp_path / "plots")
    groups = strictly((tmp_path / "r.json").read_text())["groups"]
    assert groups["column"] == "age"
    assert [group["count"] for group in groups["values"].values()] == [4, 4]
    assert "  young: 4 faces" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "reliability_expression.png",
        "reliability_action_units.png",
    }
    with pytest.raises(SystemExit, match=r"error: .*no column 'sex'; it has: name, age"):
        command(monkeypatch, *arguments, "--group-by", "sex")
    with pytest.raises(SystemExit):
        command(monkeypatch, *arguments)
    assert "--groups and --group-by go together" in capsys.readouterr().err


def test_rendered_faces_are_measured_by_unit_expression_and_matched_people(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = {"person": "anna-skin", "tone": "dark"}
    angry = {"kind": "expression", "expression": "anger"}
    shown = [
        picture(sitting, place, moved, **(who | more))
        for sitting, who in ((0, {}), (1, dark))
        for place, moved, more in [(0, {}, {}), (1, {"AU1": 0.6}, {}), (2, {"AU4": 0.8}, angry)]
    ]
    prepared = write_rendered(tmp_path / "renders", shown)
    arguments = ["--model", finished.folder, "--prepared", prepared]
    command(monkeypatch, *arguments, "--out", tmp_path / "r.json", "--resamples", 5)
    rendered = strictly((tmp_path / "r.json").read_text())["rendered"]
    assert (rendered["people"], rendered["resting"]) == (1, 2)
    assert rendered["units"]["AU1"]["moved"] == rendered["units"]["AU1"]["clear"] == 2
    assert 0 <= rendered["units"]["AU1"]["auroc_change"] <= 1
    assert rendered["expressions"]["support"] == {"anger": 2}
    assert rendered["matched"]["skin"]["pairs"] == 3
    text = capsys.readouterr().out
    assert "matched people who differ in skin: darker less lighter skin" in text
    assert "composed expressions from strength 0.4 on, 2 faces" in text
    (prepared / MANIFEST).unlink()
    with pytest.raises(SystemExit, match=r"error: .*expects .*pictures\.jsonl"):
        command(monkeypatch, *arguments)


def test_a_bundle_is_measured_too(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=0, validation=1, test=2, side=112)
    command(monkeypatch, "--model", tiny_bundle_dir, "--prepared", prepared, "--resamples", 0)
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


def test_a_split_without_faces_is_refused(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=1, validation=1, test=0)
    with pytest.raises(SystemExit, match=r"error: .*prepared has no test faces"):
        command(monkeypatch, "--model", tiny_bundle_dir, "--prepared", prepared)


def test_no_model(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: there is no bundle 'nowhere'"):
        command(monkeypatch, "--model", "nowhere", "--prepared", finished.prepared)
