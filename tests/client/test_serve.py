"""The command `affect serve`."""

import os
import sys

import pytest

from affect_client.__main__ import main
from affect_client.commands import serve


class Replaced(Exception):
    """Stands for the process that is another from then on."""


def test_the_service_takes_the_place_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []

    def execv(*words: object) -> None:
        called.extend(words)
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Replaced):
        main(["serve"])
    assert called == [sys.executable, [sys.executable, "-m", "service"]]


def test_without_the_service_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", {"service": 1, "model_core": 1}.get)
    assert main(["serve"]) == 1
    told = capsys.readouterr().err
    assert "fastapi, uvicorn missing" in told
    assert "pip install 'facial-affect-service[serve]'" in told
