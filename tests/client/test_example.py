"""docs/example-folder-to-model.md: its blocks run in their order, and print what the page shows."""

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest

from affect_client.__main__ import main
from model_core.faces.geometry import Frame
from tests.client.conftest import running_app
from tests.service.fakes import face_at
from tests.service.media_files import video

PAGE = Path(__file__).parents[2] / "docs" / "example-folder-to-model.md"
LEVELS = {"calm": 100, "happy": 140}
"""Brightness of the conditions in grey levels of 255, which the stand-in of the network reports as valence."""
FRAMES = 5


class Block(NamedTuple):
    """A block of code of the page."""

    language: str
    code: str
    shown: str | None
    """What the page says that it prints; None where it says nothing."""


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    following = [*found[1:], ("", "")]
    return [
        Block(language, code, shown if after == "text" else None)
        for (language, code), (after, shown) in zip(found, following, strict=True)
        if language != "text"
    ]


def pattern(level: float) -> Frame:
    """A sharp pattern of this mean brightness."""
    down, right = np.mgrid[0:64, 0:96]
    stripes = np.sign(np.sin(right / 4 * np.pi + 0.1) * np.sin(down / 4 * np.pi + 0.1))
    return np.repeat((level + 24 * stripes)[..., None], 3, axis=2).astype(np.uint8)


def write_recordings(folder: Path) -> None:
    """Clips of six persons who differ, in two conditions with two trials each; their last frame is black."""
    folder.mkdir()
    for person in range(6):
        for condition, level in LEVELS.items():
            for trial in (1, 2):
                brightness = level + 8 * (person - 2.5) + 3 * (-1) ** (person + trial)
                frames = [pattern(brightness)] * FRAMES + [np.zeros((64, 96, 3), np.uint8)]
                video(folder / f"p{person + 1:02}_{condition}_{trial}.mp4", frames, fps=10)


@pytest.fixture
def plots_closed() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def run_shell(code: str, url: str) -> None:
    """Run the page's commands `affect` with a service elsewhere; the environment is there already."""
    for line in code.splitlines():
        program, *words = shlex.split(line)
        assert program in {"affect", "pip", "source"}
        if program == "affect":
            assert main([*words, "--url", url]) == 0


@pytest.mark.usefixtures("plots_closed")
def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recordings(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with running_app(face_at(8, 8, 48)) as url:
        for block in blocks():
            printed = StringIO()
            with redirect_stdout(printed):
                if block.language == "sh":
                    run_shell(block.code, url)
                else:
                    assert block.language == "python"
                    exec(compile(block.code, str(PAGE), "exec"), names)
            if block.shown is not None:
                assert printed.getvalue() == block.shown
    assert (tmp_path / "valence.png").read_bytes().startswith(b"\x89PNG")
    fit = names["fit"]
    # The difference of the levels; video coding takes a little of it.
    assert fit.fe_params["condition[T.happy]"] == pytest.approx(100 * (140 - 100) / 255, abs=1)  # type: ignore[attr-defined]
