import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.peers import PeerMissing, Turn, compare, environment, fer_process

FAKE = """
class FER:
    def detect_emotions(self, frame):
        print("chatter turn 1 2", frame.shape)
        return [{}, {}]
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python_with(folder: Path, fer: str) -> Path:
    """A Python that has this module as `fer.fer`."""
    package = folder / "packages" / "fer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "fer.py").write_text(fer)
    return script(folder / "python", f'PYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"')


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return path


def test_turns_of_another_process(tmp_path: Path, picture: Path) -> None:
    with fer_process(python_with(tmp_path, FAKE), [picture, picture], threads=1) as run:
        for turn in (run(), run()):
            assert turn.faces == 4
            assert 0 < turn.seconds < 5


@pytest.mark.parametrize(
    ("fer", "reason"),
    [
        ("raise ImportError('no module named that')", "it ended: ImportError: no module named that"),
        ("class FER:\n def detect_emotions(self, frame): raise ValueError('a | b')", "it ended: ValueError: a / b"),
    ],
)
def test_a_process_that_ends_says_why(tmp_path: Path, picture: Path, fer: str, reason: str) -> None:
    with fer_process(python_with(tmp_path, fer), [picture], threads=1) as run, pytest.raises(PeerMissing) as caught:
        run()
    assert str(caught.value) == reason


def test_an_environment_that_is_there_is_taken(tmp_path: Path) -> None:
    python = script(tmp_path / "bin" / "python", "exit 0")
    assert environment(tmp_path, 5) == python


def test_a_failed_installation_says_why(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python", "echo ERROR: No matching distribution >&2; exit 1")
    with pytest.raises(PeerMissing, match=r"^its installation failed: ERROR: No matching distribution$"):
        environment(tmp_path, 5)


def test_an_endless_installation_is_left(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python", 'test "$1" = -c && exit 1; exec sleep 5')
    with pytest.raises(PeerMissing, match=r"did not end within 0\.2 s"):
        environment(tmp_path, 0.2)


def test_rows_by_hand() -> None:
    def turns(*seconds: float) -> Iterator[Turn]:
        return iter([Turn(each, 4) for each in seconds])

    def absent() -> Turn:
        raise PeerMissing("no network")

    order: list[str] = []
    first, second = turns(9.0, 0.5, 0.4, 0.6), turns(9.0, 1.0, 2.0, 1.5)

    def noted(name: str, values: Iterator[Turn]) -> Turn:
        order.append(name)
        return next(values)

    rows = compare({"ours": lambda: noted("a", first), "absent": absent, "other": lambda: noted("b", second)}, 4, 3)
    assert order == ["a", "b"] * 4
    # The first turns of 9 s do not count: medians of 0.5 and 1.5 s for four pictures.
    assert rows == [
        ("ours", 8, 125, 4, 1),
        ("absent: not measured, no network", "-", "-", "-", "-"),
        ("other", pytest.approx(4 / 1.5), 375, 4, 3),
    ]
