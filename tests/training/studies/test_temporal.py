import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import LABEL_SETS, AffectTarget
from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.models.lstm import LSTMEncoder
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from tests.fakes import write_prepared
from training.measuring.temporal_measures import errors, jitter, lag_frames
from training.runs.checkpoint import TrainedNetwork, save_trained
from training.studies import temporal


def step(delay: int, frames: int = 30, start: int = 10) -> np.ndarray:
    """[1, frames, 2]: a jump that arrives `delay` frames late."""
    values = np.zeros((1, frames, 2))
    values[0, start + delay :] = 1
    return values


def test_lag_counts_the_frames_until_half_of_the_way() -> None:
    starts = np.array([10])
    assert lag_frames(step(0), step(0), starts) == 0
    assert lag_frames(step(3), step(0), starts) == 3
    slow = np.clip((np.arange(30) - 9) / 8, 0, 1)[None, :, None].repeat(2, axis=2)  # half after four frames
    assert lag_frames(slow, step(0), starts) == 3
    assert np.isnan(lag_frames(step(0), 0.1 * step(0), starts))  # no clear change


def test_jitter_is_the_mean_change_between_frames() -> None:
    assert jitter(np.array([[[0.0], [1.0], [0.0], [2.0]]])) == pytest.approx(4 / 3)


def test_errors_are_of_known_targets() -> None:
    """Valence and arousal are 0.5 off in the first of two frames, where alone they are known; no expression is."""
    zeros, first = torch.zeros(1, 2, 2), torch.tensor([[1.0, 0.0]])
    units, known = torch.zeros(1, 2, 12), torch.zeros(1, 2, 12)
    known[..., 3] = 1
    target = AffectTarget(zeros, first, torch.zeros(1, 2, 8), torch.zeros(1, 2), units, known)
    estimates = np.zeros((1, 2, 22))
    estimates[0, 0, :2], estimates[0, 1, :2] = 0.5, 0.9
    estimates[..., 10 + 3], estimates[..., 10 + 4] = 0.25, 0.75
    spec = NetworkSpec("mfn-pooled", ("valence_arousal", "expression", "action_units"), LABEL_SETS["ferplus"])
    found = errors(estimates, target, spec)
    assert (found["valence_arousal"], found["action_units"]) == (0.5, 0.25)
    assert np.isnan(found["expression"])


@torch.no_grad()
def test_an_lstm_in_parts_equals_the_whole_and_sees_only_the_past() -> None:
    torch.manual_seed(0)
    encoder, x = LSTMEncoder(8, 4), torch.randn(2, 7, 8)
    whole = encoder(x)
    first, state = encoder.step(x[:, :3], None)
    second, _ = encoder.step(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=0)
    changed = x.clone()
    changed[:, 4:] = 0
    torch.testing.assert_close(encoder(changed)[:, :4], whole[:, :4], atol=1e-6, rtol=0)
    assert whole.shape == (2, 7, encoder.vector_size)


def test_the_command_measures_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    torch.manual_seed(0)
    spec = NetworkSpec("mfn-pooled", ("valence_arousal", "expression", "action_units"), LABEL_SETS["ferplus"])
    (tmp_path / "run").mkdir()
    input_spec = load_bundle(locate_bundle("default")).manifest.input
    small = type(input_spec)(**{**vars(input_spec), "size": 32})
    save_trained(TrainedNetwork(spec, small, build_network(spec).state_dict(), {}), tmp_path / "run" / "best.pt")
    out = tmp_path / "temporal.json"
    arguments = ["--model", tmp_path / "run", "--prepared", prepared, "--train-tracks", 4, "--tracks", 2, "--out", out]
    monkeypatch.setattr(sys, "argv", ["temporal", *map(str, arguments)])
    temporal.main()
    figures = json.loads(out.read_text())
    assert list(figures) == ["framewise", "causal", "offline", "lstm"]
    assert figures["causal"]["jitter"] < figures["framewise"]["jitter"]
    assert figures["offline"]["jitter"] < figures["framewise"]["jitter"]
    assert all(0 <= row["error_expression"] <= 1 for row in figures.values())
    assert "jitter over framewise: framewise 1.00" in capsys.readouterr().out
