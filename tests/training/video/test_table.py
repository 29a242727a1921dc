import sys
from pathlib import Path

import pytest

from tests.training.sequences import of_expressions
from training import evaluate
from training.video.protocol import measure
from training.video.result import CalibratedResult, ProtocolResult, write_result
from training.video.table import table

OURS = ProtocolResult(
    "ours | long",
    "generated set",
    {},
    {
        "valence_arousal": {"p_va": 0.5, "ccc_valence": 0.4, "ccc_arousal": 0.6, "frames": 90, "videos": 4},
        "action_units": {"p_au": 0.25, "p_au_tuned": 0.3333, "f1": {"AU1": 0.1}, "videos": 3},
    },
    {"valence_arousal": {"p_va": (0.45, 0.5512)}},
    calibrated=CalibratedResult(
        {"valence_arousal": {"p_va": 0.75}, "action_units": {"p_au": 0.3, "p_au_tuned": 0.625}},
        {"action_units": {"p_au_tuned": (0.5, 0.75)}},
    ),
)

EXPECTED = {
    "system": ["official baseline", "paper: DDAMFN + LSTM", "paper: CLIP + LSTM", r"ours \| long"],
    "measured on": ["Aff-Wild2, as reported"] * 3 + ["generated set, 3 or 4 videos"],
    "CCC_VA": ["0.22", "0.479", "-", "0.500 [0.450, 0.551]"],
    "CCC_V": ["-", "-", "-", "0.400"],
    "CCC_A": ["-", "-", "-", "0.600"],
    "F1_EXPR": ["0.25", "-", "0.336", "-"],
    "F1_AU": ["0.39", "0.411", "-", "0.250"],
    "F1_AU tuned": ["-", "0.451", "-", "0.333"],
    "CCC_VA calibrated": ["-", "-", "-", "0.750"],
    "F1_EXPR calibrated": ["-", "-", "-", "-"],
    "F1_AU calibrated": ["-", "-", "-", "0.625 [0.500, 0.750]"],
}


def test_ours_beside_the_papers() -> None:
    rows = [line.strip("| ").replace("\\|", "\0").split("|") for line in table([OURS]).split("\n\n")[0].splitlines()]
    cells = [[cell.strip().replace("\0", "\\|") for cell in row] for row in rows]
    assert cells[0] == list(EXPECTED)
    assert cells[1] == ["---"] * len(EXPECTED)
    assert dict(zip(cells[0], map(list, zip(*cells[2:], strict=True)), strict=True)) == EXPECTED


def test_the_caption_says_which_columns_are_raw() -> None:
    caption = table([OURS]).split("\n\n")[1]
    assert 'Columns without "calibrated" are of raw outputs, as the paper reports them' in caption


def test_intervals_as_they_are_measured() -> None:
    found = measure([of_expressions([0, 1], [0, 1], video) for video in "ab"], resamples=2)
    row = table([ProtocolResult("a", "b", {}, found.measures, found.intervals)]).splitlines()[5]
    assert row == "| a | b, 2 videos | - | - | - | 0.250 [0.250, 0.250] | - | - | - | - | - |"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training.evaluate", *map(str, arguments)])
    evaluate.main()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_result(tmp_path / name, OURS)
    command(monkeypatch, "--table", tmp_path / "one", tmp_path / "two")
    assert capsys.readouterr().out == table([OURS, OURS]) + "\n"
    with pytest.raises(SystemExit, match=r"error: .*protocol\.json cannot be read"):
        command(monkeypatch, "--table", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", "a", "--prepared", "b"), "not allowed with"),
        (("--table", "a", "--split", "train"), "--table goes alone"),
        ((), "one of the arguments --prepared --run --table is required"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
