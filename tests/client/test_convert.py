"""The command `affect convert`, whose files are opened as other programs open them."""

import gzip
import io
import json
import math
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from pympi.Elan import Eaf

from affect_client.__main__ import main
from tests.client.fake_service import MODEL, face

PROBABILITIES = [0.1, 0.7, 0.9, None, 0.2, 0.8]
"""Of AU12 in the frames of track 1, ten a second; in one it has no face. Track 2 is in the first frame only."""


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """An NDJSON of a video."""
    objects: list[dict[str, object]] = [{"type": "video", "model": MODEL}]
    for number, probability in enumerate(PROBABILITIES):
        faces = [seen(1, probability)] if probability is not None else []
        if number == 0:
            faces.append(seen(2, 0.0))
        objects.append({"type": "frame", "time_s": 2 + number / 10, "frame": 3 * number, "faces": faces})
    objects.append({"type": "summary", "truncated": False})
    path = tmp_path / "clip.mp4.ndjson"
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return path


def seen(track_id: int, probability: float) -> dict[str, object]:
    units = {"AU12": {"probability": probability, "active": probability >= 0.5}}
    return face(probability / 2) | {"track_id": track_id, "action_units": units}


def annotations(document: Eaf, tier: str) -> list[tuple[int, int, str]]:
    return sorted(document.get_annotation_data_for_tier(tier))


def test_elan(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "videos" / "a clip.mp4"
    video.parent.mkdir()
    video.write_bytes(b"a video")
    out = tmp_path / "clip.eaf"
    assert main(["convert", "eaf", str(result), "--out", str(out), "--media", str(video)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    document = Eaf(out)
    assert out.read_bytes().startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT ')
    assert set(document.get_tier_names()) == {
        f"track {track_id} {name}" for track_id in (1, 2) for name in ("face", "AU12", "neutral", "happiness")
    }
    assert annotations(document, "track 1 AU12") == [
        (2100, 2300, "apex 2.200 s, probability 0.90"),
        (2500, 2600, "apex 2.500 s, probability 0.80"),
    ]
    assert annotations(document, "track 1 face") == [(2000, 2300, "face"), (2400, 2600, "face")]
    assert annotations(document, "track 2 AU12") == []
    assert annotations(document, "track 2 happiness") == [(2000, 2100, "apex 2.000 s, probability 0.75")]
    assert annotations(document, "track 2 neutral") == []
    [linked] = document.get_linked_files()
    assert Path(unquote(urlsplit(linked["MEDIA_URL"]).path)) == video.resolve()
    assert linked["RELATIVE_MEDIA_URL"] == "./videos/a clip.mp4"
    assert linked["MIME_TYPE"] == "video/mp4"


def test_changes_are_told_to_both(result: Path, tmp_path: Path) -> None:
    changes = [None, {"value": 0.4, "rose": True}, {"value": 0.75, "rose": True}, {"value": -0.1, "rose": False}]
    objects: list[dict[str, object]] = [{"type": "video", "model": MODEL}]
    for number, change in enumerate(changes):
        told = {} if change is None else {"change": {"valence": {"value": 0.5, "rose": None}, "AU12": change}}
        objects.append({"type": "frame", "time_s": number / 10, "frame": number, "faces": [seen(1, 0.5) | told]})
    objects.append({"type": "summary", "truncated": False})
    result.write_text("".join(json.dumps(each) + "\n" for each in objects))
    assert main(["convert", "eaf", str(result)]) == 0
    document = Eaf(result.with_suffix(".eaf"))
    assert annotations(document, "track 1 AU12 rose") == [(100, 300, "apex 0.200 s, change 0.75")]
    assert "track 1 valence rose" not in document.get_tier_names()  # nothing tells whether it rose
    out = tmp_path / "sub-01_task-talk_physio.tsv.gz"
    assert main(["convert", "bids", str(result), "--out", str(out)]) == 0
    table = bids_table(out)
    assert [None if math.isnan(each) else each for each in table["AU12_change"]] == [None, 0.4, 0.75, -0.1]
    sidecar = json.loads((tmp_path / "sub-01_task-talk_physio.json").read_text())
    assert sidecar["AU12_change"]["Description"].startswith("Estimated change of AU12 against the same person's own")
    assert "from -2 to 2" in sidecar["valence_change"]["Description"]


def test_elan_by_rules_of_ones_own(result: Path) -> None:
    words = ["--unit-threshold", "0.75", "--max-gap-s", "0.2", "--min-duration-s", "0.3", "--expression-threshold", "1"]
    assert main(["convert", "eaf", str(result), *words]) == 0
    document = Eaf(result.with_suffix(".eaf"))
    assert annotations(document, "track 1 AU12") == [(2200, 2600, "apex 2.200 s, probability 0.90")]
    assert annotations(document, "track 1 happiness") == []


def bids_table(path: Path) -> pd.DataFrame:
    """A recording as the specification has it read: the names come from the JSON file."""
    sidecar = json.loads(path.with_name(path.name.replace(".tsv.gz", ".json")).read_text())
    table = pd.read_csv(path, sep="\t", header=None, names=sidecar["Columns"], na_values="n/a", keep_default_na=False)
    start = sidecar["StartTime"]
    table.index = pd.Index([start + number / sidecar["SamplingFrequency"] for number in range(len(table))])
    return table


def test_bids(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub-01_task-talk_recording-face_physio.tsv.gz"
    assert main(["convert", "bids", str(result), "--out", str(out), "--track", "1", "--start-time-s", "-1.5"]) == 0
    sidecar = json.loads((tmp_path / "sub-01_task-talk_recording-face_physio.json").read_text())
    assert sidecar["SamplingFrequency"] == pytest.approx(10)
    assert sidecar["StartTime"] == 0.5
    columns = ["valence", "arousal", "AU12", "expression_neutral", "expression_happiness"]
    assert sidecar["Columns"] == columns
    assert sidecar["PhysioType"] == "generic"
    for name in columns:
        assert sidecar[name]["Units"] == "1"
        assert "derived by a rule or another model" in sidecar[name]["Description"]
    assert "not an intensity" in sidecar["AU12"]["Description"]
    table = bids_table(out)
    assert table.index.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert [None if math.isnan(each) else each for each in table["AU12"]] == PROBABILITIES
    lines = gzip.decompress(out.read_bytes()).decode().splitlines()
    assert lines[0] == "0.05\t-0.05\t0.1\t0.25\t0.75"
    assert lines[3] == "n/a\tn/a\tn/a\tn/a\tn/a"


def test_bids_at_another_rate_repeats_frames_and_makes_no_values(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub-01_task-talk_physio.tsv.gz"
    for hz, expected in {"20": [0.1, 0.1, 0.7, 0.7, 0.9], "5": [0.1, 0.9, 0.2]}.items():
        assert main(["convert", "bids", str(result), "--out", str(out), "--track", "1", "--sampling-hz", hz]) == 0
        values = bids_table(out)["AU12"].dropna()
        assert set(values) <= set(expected) | {0.2, 0.8}
        assert values.tolist()[: len(expected)] == expected


def test_a_pause_of_the_video_is_not_filled(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("frame,time_s,track_id,valence\n0,0.0,1,0.5\n1,0.1,1,0.5\n2,0.2,1,0.5\n3,0.6,1,0.25\n")
    out = tmp_path / "sub-01_task-talk_physio.tsv.gz"
    assert main(["convert", "bids", str(path), "--out", str(out)]) == 0
    table = pd.read_csv(io.BytesIO(gzip.decompress(out.read_bytes())), header=None)
    assert [None if math.isnan(each) else each for each in table[0]] == [0.5, 0.5, 0.5, None, None, None, 0.25]
    sidecar = json.loads((tmp_path / "sub-01_task-talk_physio.json").read_text())
    assert sidecar["Columns"] == ["valence"]
    assert "told by the service at /models" in sidecar["valence"]["Description"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_every_format_of_a_result_is_read(suffix: str, url: str, clips: Path, tmp_path: Path) -> None:
    words = [str(clips / "clip.mp4"), "--out", str(tmp_path), "--url", url, "--format", suffix]
    assert main(["analyze", *words]) == 0
    assert main(["convert", "eaf", str(tmp_path / f"clip.mp4.{suffix}")]) == 0
    document = Eaf(tmp_path / "clip.mp4.eaf")
    assert [each[:2] for each in annotations(document, "track 1 face")] == [(0, 300)]
    # Only the third frame is bright: its level is 200 of 255.
    [smile] = annotations(document, "track 2 AU12")
    assert smile[:2] == (200, 300)
    assert smile[2].startswith("apex 0.200 s, probability 0.7")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bids", "{result}", "--out", "{tmp}/clip.tsv.gz"], "BIDS asks for a name like"),
        (["bids", "{result}", "--out", "{tmp}/sub-01_task-a_physio.tsv.gz"], "several tracks (1, 2)"),
        (["bids", "{result}", "--out", "{tmp}/sub-01_task-a_physio.tsv.gz", "--track", "7"], "there is no track 7"),
        (["eaf", "{tmp}/absent.csv"], "absent.csv: there is no such file or folder"),
        (["eaf", "{result}", "--media", "{tmp}/absent.mp4"], "there is no such video"),
        (["eaf", "{tmp}"], "is a folder, and not a file"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    words: list[str], told: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert main(["convert", *(word.format(result=result, tmp=tmp_path) for word in words)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("kept", "more", "told"),
    [
        (-1, "", "it is cut off: its last line is no summary"),
        (-1, '{"type": "error", "detail": "the video is damaged"}\n', "did not end well: the video is damaged"),
    ],
)
def test_a_broken_stream_is_told(
    kept: int, more: str, told: str, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result.write_text("".join(result.read_text().splitlines(keepends=True)[:kept]) + more)
    assert main(["convert", "eaf", str(result)]) == 1
    assert told in capsys.readouterr().err
    assert not result.with_suffix(".eaf").exists()


def test_a_result_of_the_first_part_is_told(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result.write_text(result.read_text().replace('"truncated": false', '"truncated": true'))
    assert main(["convert", "eaf", str(result)]) == 0
    assert "clip.mp4.ndjson: the file is damaged and ended early" in capsys.readouterr().err


def test_annotations_that_may_have_been_edited_are_left_alone(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = result.with_suffix(".eaf")
    out.write_text("edited by hand")
    assert main(["convert", "eaf", str(result)]) == 1
    assert f"--out {out} replaces it" in capsys.readouterr().err
    assert out.read_text() == "edited by hand"
    assert main(["convert", "eaf", str(result), "--out", str(out)]) == 0
    assert Eaf(out).get_tier_names()
    before = result.read_bytes()
    assert main(["convert", "eaf", str(result), "--out", str(result)]) == 1
    assert "is the file that the result is made from" in capsys.readouterr().err
    assert result.read_bytes() == before


def test_options_of_the_other_format_are_refused(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "eaf", str(result), "--track", "1"])
    assert caught.value.code == 2
    assert "--track" in capsys.readouterr().err


def test_a_missing_package_is_told_with_its_extra(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pympi.Elan", None)
    assert main(["convert", "eaf", str(result)]) == 1
    assert "pip install 'facial-affect-service[elan]'" in capsys.readouterr().err
