from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from tests.training.sequences import of_affect, unlabelled
from training.datasets.affwild2 import HEADERS
from training.video.predictions import ProtocolError, SequencePredictions
from training.video.submission import write_submission, write_whole_submission


def with_gap() -> SequencePredictions:
    """Three frames of a second person, the middle one without a picture; no targets."""
    whole = unlabelled(3, "b", "left")
    sequence = replace(whole, frames=(whole.frames[0], None, whole.frames[2]))
    scores = np.eye(8)[[4, 0, 7]]
    probabilities = np.tile([[0.2], [0.4], [0.6]], (1, 12))
    return SequencePredictions(sequence, np.array([[0.5, -1], [0, 0], [0.1234567, 1]]), scores, probabilities)


def test_rows_are_the_frames_with_a_picture(tmp_path: Path) -> None:
    first = of_affect([[0, 0.25]], [[-5, -5]], "a")
    write_submission(tmp_path / "va.txt", "valence_arousal", [first, with_gap()])
    assert (tmp_path / "va.txt").read_bytes().decode() == (
        "image_location,valence,arousal\n"
        "a/00001.jpg,0.000000,0.250000\n"
        "b_left/00001.jpg,0.500000,-1.000000\n"
        "b_left/00003.jpg,0.123457,1.000000\n"
    )


def in_two_parts() -> SequencePredictions:
    """Six frames, of which the second, fifth and sixth have a picture."""
    whole = unlabelled(6, "c")
    paths = tuple(path if i in (1, 4, 5) else None for i, path in enumerate(whole.frames))
    return SequencePredictions(replace(whole, frames=paths), expression=np.eye(8)[[7, 1, 7, 7, 2, 3]])


def test_a_frame_without_a_picture_repeats_the_last_answer_or_has_the_first(tmp_path: Path) -> None:
    wanted = [("c", number) for number in range(1, 7)]
    write_whole_submission(tmp_path / "expr.txt", "expression", [in_two_parts()], wanted)
    assert (tmp_path / "expr.txt").read_text().splitlines() == [
        f"image_location,{HEADERS['expression']}",
        *("c/00001.jpg,1", "c/00002.jpg,1", "c/00003.jpg,1", "c/00004.jpg,1", "c/00005.jpg,2", "c/00006.jpg,3"),
    ]


def test_exactly_the_wanted_frames_in_their_order(tmp_path: Path) -> None:
    wanted = [("c", 5), ("b_left", 3), ("c", 1)]
    write_whole_submission(tmp_path / "a.txt", "expression", [with_gap(), in_two_parts()], wanted)
    rows = (tmp_path / "a.txt").read_text().splitlines()[1:]
    assert rows == ["c/00005.jpg,2", "b_left/00003.jpg,7", "c/00001.jpg,1"]
    for missing in (("d", 1), ("c", 7)):
        with pytest.raises(ProtocolError, match=f"{missing[0]}/0000{missing[1]}.jpg has no prediction"):
            write_whole_submission(tmp_path / "b.txt", "expression", [in_two_parts()], [missing])
    assert not (tmp_path / "b.txt").exists()


def test_a_video_without_pictures_is_answered_by_zeros(tmp_path: Path) -> None:
    nothing = unlabelled(2, "d", pictures=False)
    values = SequencePredictions(nothing, np.ones((2, 2)), np.eye(8)[[3, 3]], np.ones((2, 12)))
    for task, row in (("valence_arousal", "0.000000,0.000000"), ("expression", "0"), ("action_units", "0" + ",0" * 11)):
        path = tmp_path / f"{task}.txt"
        write_whole_submission(path, task, [values], [("d", 1), ("d", 2)])
        assert path.read_text().splitlines()[1:] == [f"d/00001.jpg,{row}", f"d/00002.jpg,{row}"]


def test_units_are_decided_by_thresholds(tmp_path: Path) -> None:
    write_submission(tmp_path / "half.txt", "action_units", [with_gap()])
    assert (tmp_path / "half.txt").read_text().splitlines() == [
        "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
        "b_left/00001.jpg" + ",0" * 12,
        "b_left/00003.jpg" + ",1" * 12,
    ]
    tuned = dict.fromkeys(ACTION_UNITS, 0.7) | {"AU2": 0.2}
    write_submission(tmp_path / "tuned.txt", "action_units", [with_gap()], tuned)
    rows = (tmp_path / "tuned.txt").read_text().splitlines()[1:]
    assert {row.split(",", 1)[1] for row in rows} == {"0,1" + ",0" * 10}


def test_nothing_is_overwritten_and_bad_values_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_submission(path, "valence_arousal", [with_gap()])
    assert path.read_text() == "mine"
    path.unlink()
    with pytest.raises(ProtocolError, match="a has no predictions of expression"):
        write_submission(path, "expression", [of_affect([[0, 0]], [[0, 0]])])
    for value in (1.5, float("nan")):
        with pytest.raises(ProtocolError, match=r"a/00002\.jpg: valence_arousal is \["):
            write_submission(path, "valence_arousal", [of_affect([[0, 0], [0, value]], [[0, 0], [0, 0]])])
    assert not path.exists()
