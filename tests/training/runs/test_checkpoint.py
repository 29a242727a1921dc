import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from tests.fakes import Hostile
from training.runs.checkpoint import (
    CheckpointError,
    TrainedNetwork,
    load_plain,
    load_trained,
    save_atomically,
    save_trained,
)

TRAINED = TrainedNetwork(
    NetworkSpec("mfn-pooled", ("expression",), ("a", "b")),
    InputSpec(32, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1"),
    {"w": torch.arange(3.0)},
    {"config": {"seed": 1}},
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_trained(TRAINED, tmp_path / "best.pt")
    again = load_trained(tmp_path / "best.pt")
    assert (again.spec, again.input, again.training) == (TRAINED.spec, TRAINED.input, TRAINED.training)
    assert torch.equal(again.weights["w"], TRAINED.weights["w"])


def test_a_failed_save_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_atomically({"step": 1}, path)

    def half(content: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        save_atomically({"step": 2}, path)
    assert load_plain(path) == {"step": 1}


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    torch.save({"weights": Hostile(trace)}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt is not a checkpoint of plain tensors \(UnpicklingError\)"):
        load_plain(tmp_path / "best.pt")
    assert not trace.exists()


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"best\.pt does not exist"):
        load_trained(tmp_path / "best.pt")
    save_trained(TRAINED, tmp_path / "best.pt")
    content = (tmp_path / "best.pt").read_bytes()
    for kept in (0, 10, len(content) // 2):
        (tmp_path / "best.pt").write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match="is not a checkpoint of plain tensors"):
            load_trained(tmp_path / "best.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        [1, 2],
        {"spec": "{}", "input": "{}", "weights": {}, "training": "{}"},
        {"spec": json.dumps({"tasks": [], "labels": [], "depth": 3}), "input": "{", "weights": {}, "training": "{}"},
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: Any) -> None:
    save_atomically(content, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="is not a trained network of this version"):
        load_trained(tmp_path / "best.pt")
