"""docs/live.md: its example runs, and what it tells of messages and codes is what there is."""

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.live.conversation import Code
from service.output.schemas import LiveError, LiveFrame, LiveOverloaded, LiveReady
from service.settings import Settings, variable
from tests.service.http.serving import port_of, served
from tests.service.media_files import mp4

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")


def test_the_example_tells_of_each_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert example.count("127.0.0.1:8000") == 1
    mp4(tmp_path / "clip.mp4", [204] * 3)
    monkeypatch.chdir(tmp_path)
    with capture_logs(), served(Settings(live_fps=1000)) as server:
        exec(example.replace("127.0.0.1:8000", f"127.0.0.1:{port_of(server)}"), {})
    ready, *lines = capsys.readouterr().out.splitlines()
    assert ready == "ready: fake-1"
    assert len(lines) == 3
    for line in lines:
        _, track_id, valence, label = line.split()
        assert (track_id, label) == ("1", "happiness")
        assert float(valence) == pytest.approx(0.8, abs=0.03)


def test_it_names_every_message_code_and_setting() -> None:
    rows = dict(re.findall(r"^\| `?(\w+)`? \| (.*) \|$", PAGE, re.M))
    for message in (LiveReady, LiveFrame, LiveError, LiveOverloaded):
        kind = message.model_fields["type"].annotation.__args__[0]
        assert all(f"`{name}`" in rows[kind] for name in message.model_fields.keys() - {"type"}), kind
    assert {str(int(code)) for code in Code} - {"1000"} <= rows.keys()
    settings = {variable(name) for name in Settings.model_fields if name.startswith("live_")}
    assert settings <= set(re.findall(r"AFFECT_\w+", PAGE))
