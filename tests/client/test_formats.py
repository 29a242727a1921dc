"""The formats of results, each opened by what people open it with."""

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from affect_client.__main__ import main
from affect_client.commands.folder import MANIFEST
from tests.client.fake_service import MODELS, Answer, Seen, document, face, fake_service, picture_document, refused

JPEG = b"\xff\xd8\xff"


def analyzed(url: str, files: list[Path], out: Path, *options: str) -> int:
    return main(["analyze", *map(str, files), "--out", str(out), "--url", url, *options])


def manifest(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def test_parquet_holds_what_pandas_reads_from_the_csv(url: str, clips: Path, tmp_path: Path) -> None:
    files = [clips / "clip.mp4", clips / "grey.png"]
    assert analyzed(url, files, tmp_path, "--baseline-s", "0.15") == 0
    assert analyzed(url, files, tmp_path, "--baseline-s", "0.15", "--format", "parquet") == 0
    for name, rows in {"clip.mp4": 7, "grey.png": 2}.items():
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert len(table) == rows
        as_csv = pd.read_csv(tmp_path / f"{name}.csv")
        # A picture has no track at all: a column without numbers is empty in either file, and only Parquet has a type.
        assert_frame_equal(table, as_csv, check_dtype=name == "clip.mp4", check_exact=True)
    assert [entry["options"] for entry in manifest(tmp_path)][-1]["format"] == "parquet"


def test_a_table_is_compared_with_whole_tracks(url: str, clips: Path, tmp_path: Path) -> None:
    assert analyzed(url, [clips / "clip.mp4"], tmp_path, "--baseline", "auto") == 0
    assert analyzed(url, [clips / "clip.mp4"], tmp_path / "plain") == 0
    table = pd.read_csv(tmp_path / "clip.mp4.csv")
    plain = pd.read_csv(tmp_path / "plain" / "clip.mp4.csv")
    assert_frame_equal(table[plain.columns], plain)
    first = table[table["track_id"] == 1]
    # Levels of 60, 120 and 200 of 255; valence is compared with their median.
    assert first["valence_change"].tolist() == pytest.approx([-60 / 255, 0, 80 / 255], abs=0.01)
    assert manifest(tmp_path)[0]["options"] == {"format": "csv", "baseline": "auto"}


def test_the_document_is_the_services(url: str, clips: Path, tmp_path: Path) -> None:
    assert analyzed(url, [clips / "clip.mp4", clips / "grey.png"], tmp_path, "--format", "json") == 0
    video = json.loads((tmp_path / "clip.mp4.json").read_text())
    assert [len(track["samples"]) for track in video["tracks"]] == [3, 3]
    assert len(json.loads((tmp_path / "grey.png.json").read_text())["faces"]) == 2


def test_columns_of_other_tools(url: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from feat.utils.io import read_feat, read_openface

    for form in ("openface", "fex"):
        assert analyzed(url, [clips / "clip.mp4", clips / "grey.png"], tmp_path, "--format", form) == 1
        assert f"pictures have no table with the columns of {form}" in capsys.readouterr().err
    openface = read_openface(str(tmp_path / "clip.mp4.openface.csv"))
    assert openface["AU12_c"].tolist()[:6] == [0, 0, 0, 0, 1, 1]
    fex = read_feat(str(tmp_path / "clip.mp4.fex.csv"))
    assert fex.aus["AU12"].tolist()[4:6] == pytest.approx([200 / 255] * 2, abs=0.02)
    assert {entry["result"] for entry in manifest(tmp_path) if entry["state"] == "done"} == {
        "clip.mp4.openface.csv",
        "clip.mp4.fex.csv",
    }


def test_a_picture_at_rest_goes_with_every_picture(tmp_path: Path) -> None:
    rest, smile = tmp_path / "rest.jpg", tmp_path / "smile.jpg"
    rest.write_bytes(JPEG + b"rest")
    smile.write_bytes(JPEG)
    change = {"change": {"valence": {"value": 0.25, "rose": True}, "arousal": {"value": 0.5, "rose": None}}}

    def service(seen: Seen) -> Answer:
        return document(MODELS if seen.path == "/models" else picture_document(face() | change))

    with fake_service(service) as server:
        assert analyzed(server.url, [smile], tmp_path / "out", "--baseline", str(rest)) == 0
        sent = [(seen.part("file"), seen.part("baseline")) for seen in server.seen if seen.method == "POST"]
    # The baseline is looked at before the first picture is.
    assert sent == [(JPEG + b"rest", JPEG + b"rest"), (JPEG, JPEG + b"rest")]
    table = pd.read_csv(tmp_path / "out" / "smile.jpg.csv")
    assert table.loc[0, ["valence_change", "valence_rose", "arousal_change"]].tolist() == [0.25, 1, 0.5]
    [entry] = manifest(tmp_path / "out")
    assert entry["options"] == {"format": "csv", "baseline": hashlib.sha256(JPEG + b"rest").hexdigest()}


def test_a_doubtful_baseline_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rest.jpg").write_bytes(JPEG)

    def service(seen: Seen) -> Answer:
        return document(MODELS if seen.path == "/models" else picture_document(face()) | {"baseline": face()})

    with fake_service(service) as server:
        words = ["--baseline", str(tmp_path / "rest.jpg")]
        assert analyzed(server.url, [tmp_path / "rest.jpg"], tmp_path / "out", *words) == 0
    told = capsys.readouterr().err
    assert "the face of the baseline is not reliable (small, turned); changes against it may be wrong" in told
    assert "the face of the baseline may not be at rest (AU12); changes against it may be wrong" in told


def test_a_baseline_without_a_face_ends_the_command_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rest.jpg", "smile.jpg"):
        (tmp_path / name).write_bytes(JPEG)

    def service(seen: Seen) -> Answer:
        return document(MODELS) if seen.path == "/models" else refused(422, "invalid_baseline")

    with fake_service(service) as server:
        words = ["--baseline", str(tmp_path / "rest.jpg")]
        assert analyzed(server.url, [tmp_path / "smile.jpg"], tmp_path / "out", *words) == 1
        assert len(server.seen) == 2
    assert "invalid_baseline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--baseline", "auto", "--format", "ndjson"], "--baseline auto has no place in the format ndjson"),
        (["--baseline", "auto", "--format", "fex"], "--baseline auto has no place in the format fex"),
        (["--baseline", "auto", "--baseline-s", "3"], "give either --baseline auto or --baseline-s"),
        (["--baseline", "absent.jpg"], "absent.jpg: there is no such file or folder"),
    ],
)
def test_what_does_not_go_together_is_told_at_once(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    assert analyzed("http://127.0.0.1:1", [tmp_path / "clip.mp4"], tmp_path / "out", *options) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("file", "options", "told"),
    [
        ("clip.mp4", ["--baseline", __file__], "--baseline with a file is for pictures, and there is none"),
        ("face.jpg", ["--baseline", "auto"], "--baseline auto and --baseline-s are for videos, and there is none"),
        ("face.jpg", ["--baseline-s", "3"], "--baseline auto and --baseline-s are for videos, and there is none"),
        ("face.jpg", ["--baseline", __file__, "--baseline-s", "3"], "--baseline-s are for videos, and there is none"),
    ],
)
def test_a_baseline_without_a_use_is_refused(
    file: str, options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_bytes(b"clip")
    assert analyzed("http://127.0.0.1:1", [tmp_path / file], tmp_path / "out", *options) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_missing_package_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = ("--format", "parquet")
    assert analyzed("http://127.0.0.1:1", [tmp_path / "clip.mp4"], tmp_path / "out", *words) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "pyarrow is not installed; install it with: pip install 'facial-affect-service[tables]'" in line
