"""The command `affect plot`."""

import json
import math
from pathlib import Path

import pytest

from affect_client.__main__ import main
from affect_client.commands.plot import draw
from affect_client.recordings import Recording, read_recording
from tests.client.fake_service import face

CSV_TEXT = """frame,time_s,track_id,valence,arousal,AU1,AU1_active,AU12,AU12_active
0,0.0,1,0.5,-0.5,0.1,0,0.9,1
0,0.0,2,-0.25,0.25,0.2,0,0.8,1
3,0.3,,,,,,,
6,0.6,2,-0.5,0.5,0.3,0,0.7,1
6,0.6,7,0.0,0.0,0.0,0,0.0,0
9,0.9,2,-0.5,0.5,0.3,0,0.7,1
# truncated: the file is damaged and ended early
"""


def shown(recording: Recording, track_id: int, name: str) -> list[float | None]:
    return [None if math.isnan(value) else value for value in recording.tracks[track_id][name]]


def test_a_table_as_recording_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text(CSV_TEXT)
    recording = read_recording(tmp_path / "clip.csv")
    assert recording.times_s == [0.0, 0.3, 0.6, 0.9]
    assert recording.truncated
    assert recording.units == ["AU1", "AU12"]
    assert list(recording.tracks) == [2, 1, 7]  # by the number of samples
    assert shown(recording, 1, "valence") == [0.5, None, None, None]
    assert shown(recording, 2, "AU12") == [0.8, None, 0.7, 0.7]


def test_a_stream_gives_the_same(tmp_path: Path) -> None:
    frames = [
        {"type": "video"},
        {"type": "frame", "time_s": 0.0, "frame": 0, "faces": [face(0.25) | {"track_id": 1}]},
        {"type": "progress", "done_s": 0.5},
        {"type": "frame", "time_s": 0.5, "frame": 5, "faces": []},
        {"type": "summary", "truncated": False},
    ]
    (tmp_path / "clip.ndjson").write_text("".join(json.dumps(each) + "\n" for each in frames))
    recording = read_recording(tmp_path / "clip.ndjson")
    assert recording.times_s == [0.0, 0.5]
    assert shown(recording, 1, "valence") == [0.25, None]
    assert shown(recording, 1, "AU12") == [0.875, None]


def test_what_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text(CSV_TEXT)
    figure = draw(read_recording(tmp_path / "clip.csv"))
    valence, arousal, *units = figure.axes[:5]
    assert [line.get_label() for line in valence.lines[:3]] == ["track 2", "track 1", "track 7"]
    assert arousal.lines[1].get_ydata()[0] == -0.5
    assert [axes.get_title("left") for axes in units] == ["track 2", "track 1", "track 7"]
    [mesh] = units[0].collections
    assert mesh.get_array().tolist()[1] == [0.8, None, 0.7, 0.7]
    figure.draw_without_rendering()
    assert valence.get_legend().get_window_extent().y0 >= valence.bbox.y1  # it covers no line


def test_changes_stand_below_the_units_of_a_track(tmp_path: Path) -> None:
    rows = ["0,0.0,1,0.5,-0.5,0.9,1,,", "3,0.3,1,0.5,-0.5,0.9,1,-0.25,0", "6,0.6,1,0.5,-0.5,0.9,1,0.75,1"]
    header = "frame,time_s,track_id,valence,arousal,AU12,AU12_active,AU12_change,AU12_rose"
    (tmp_path / "clip.csv").write_text("\n".join([header, *rows]) + "\n")
    recording = read_recording(tmp_path / "clip.csv")
    assert recording.changes == ["AU12"]
    assert shown(recording, 1, "AU12_rose") == [None, 0, 1]
    units, changes = draw(recording).axes[2:4]
    assert [axes.get_title("left") for axes in (units, changes)] == ["track 1", "track 1, against its baseline"]
    [mesh] = changes.collections
    assert mesh.get_array().tolist() == [[None, -0.25, 0.75]]
    assert mesh.get_clim() == (-1, 1)


def test_the_picture(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text(CSV_TEXT)
    assert main(["plot", str(tmp_path / "clip.csv")]) == 0
    assert (tmp_path / "clip.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "no frame"),
        ("a.csv", "frame,time_s\n", "no frame"),
        ("a.csv", "frame,time_s,track_id,valence\n0,0.0,,0.5\n", "no track"),
        ("a.csv", CSV_TEXT + '# error: {"detail": "it took too long"}\n', "did not end well: error"),
        ("a.csv", "frame,timestamp,confidence\n1,0.0,0.9\n", "native columns"),
        ("a.csv", "frame,time_s,track_id\nx,y,z\n", "invalid literal"),
        ("a.ndjson", "not JSON\n", "Expecting value"),
        ("a.ndjson", '{"type": "frame"}\n', "no NDJSON of the service"),
        ("a.ndjson", "[]\n", "no NDJSON of the service"),
    ],
)
def test_what_is_no_result_of_a_video(
    name: str, text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main(["plot", str(tmp_path / name)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "a.png").exists()
