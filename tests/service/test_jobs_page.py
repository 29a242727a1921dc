"""docs/jobs.md: its Python example runs as it stands against a real application."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from service.app import create_app
from service.http.queries import VideoQuery
from service.output.annotation.hiding import GROWTH, HOLD_FRAMES, HOLD_S, MIN_CONFIDENCE, THOROUGH_EVERY_S
from service.settings import Settings, variable
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.serving import running
from tests.service.media_files import mp4

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")


def test_the_example_saves_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    waits: list[float] = []
    clock = ModuleType("time")
    clock.sleep = waits.append  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    mp4(tmp_path / "lecture.mp4", [100] * 20)
    app = create_app(Settings(jobs_dir=tmp_path / "jobs"), FakeDetector(face_at(8, 8, 32)), FakePredictor())
    with running(app) as url:
        code = example.replace("http://127.0.0.1:8000", url).replace("import time\n", "")
        exec(compile(code, "docs/jobs.md", "exec"), {"time": clock})
    table = (tmp_path / "lecture.csv").read_text().splitlines()
    assert table[0].startswith("frame,time_s,track_id")
    assert len(table) == 11  # two seconds at five frames a second
    assert list((tmp_path / "jobs").rglob("*/*")) == []
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("queued: ", "running: "))]
    assert len(told) == len(waits) > 0


def test_the_page_names_what_there_is() -> None:
    for name in re.findall(r"AFFECT_[A-Z_]+", PAGE):
        assert name in {variable(field) for field in Settings.model_fields}, name
    for name in re.findall(r"^\| `(\w+)` \| `\w+` \|", PAGE, re.M):
        assert name in VideoQuery.model_fields, name


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert (MIN_CONFIDENCE, GROWTH, HOLD_S, HOLD_FRAMES, THOROUGH_EVERY_S) == (0.3, 0.3, 0.5, 2, 0.1)
    for words in ("confidence of 0.3", "30 % on each side", "half a second, or two frames", "ten times a second"):
        assert words in " ".join(PAGE.split())
