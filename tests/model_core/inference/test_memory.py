"""A track's memory against the network on the whole sequence."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model_core.bundles.manifest import TemporalSpec
from model_core.inference.memory import TrackMemory
from model_core.inference.recurrent import RecurrentNetwork
from model_core.models.heads import AffectNetwork
from model_core.models.lstm import LSTMEncoder

RATE = 10.0


def network() -> AffectNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return AffectNetwork(nn.Identity(), {"expression": nn.Linear(3, 2)}, LSTMEncoder(4, 3)).eval()


NETWORK = network()
RECURRENT = RecurrentNetwork({name: value.numpy() for name, value in NETWORK.state_dict().items()}, {"expression": 2})
VECTORS = np.random.default_rng(3).normal(size=(40, 4))


def whole(vectors: np.ndarray) -> np.ndarray:
    """Outputs [T, 2] of a sequence from its start."""
    with torch.inference_mode():
        return NETWORK.forward_sequence(torch.from_numpy(vectors).float()[None])[0].expression[0].double().numpy()


def stepped(spec: TemporalSpec, vectors: np.ndarray, times_s: Sequence[float]) -> np.ndarray:
    memory = TrackMemory(RECURRENT, spec)
    return np.stack([memory.step(vector, time_s) for vector, time_s in zip(vectors, times_s, strict=True)])


def every(step_s: float, count: int) -> list[float]:
    return [i * step_s for i in range(count)]


def test_carried_is_the_whole_sequence() -> None:
    found = stepped(TemporalSpec(RATE, 3, "carried", 0.5), VECTORS[:9], every(0.1, 9))
    assert found == pytest.approx(whole(VECTORS[:9]), abs=1e-6)


def test_reset_is_a_row_of_windows() -> None:
    found = stepped(TemporalSpec(RATE, 4, "reset", 0.5), VECTORS[:10], every(0.1, 10))
    windows = [whole(VECTORS[start : min(start + 4, 10)]) for start in (0, 4, 8)]
    assert found == pytest.approx(np.concatenate(windows), abs=1e-6)
    assert np.abs(found[4:] - whole(VECTORS[:10])[4:]).max() > 0.01  # the state matters


@pytest.mark.parametrize(("gap_s", "anew"), [(0.5, False), (0.5001, False), (0.6, True)])
def test_a_long_gap_starts_anew(gap_s: float, anew: bool) -> None:
    times_s = [0.0, 0.1, 0.2, 0.2 + gap_s, 0.3 + gap_s]
    found = stepped(TemporalSpec(RATE, 9, "carried", 0.5), VECTORS[:5], times_s)
    expected = np.concatenate([whole(VECTORS[:3]), whole(VECTORS[3:5])]) if anew else whole(VECTORS[:5])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("times", [2, 3, 6])
def test_faster_frames_are_held_at_the_trained_rate(times: int) -> None:
    found = stepped(TemporalSpec(RATE, 9, "carried", 0.5), VECTORS[:24], every(0.1 / times, 24))
    # The first frame is a step, and then the first one that is due, a quarter of a step early at most.
    due = [i for i in range(24) if i == 0 or int(i / times + 0.25 + 1e-9) > int((i - 1) / times + 0.25 + 1e-9)]
    steps = whole(VECTORS[due])
    assert len(due) == 24 // times + (times > 3)
    for position, row in enumerate(found):
        assert row == pytest.approx(steps[sum(i <= position for i in due) - 1], abs=1e-6)


def test_slower_frames_are_a_step_each() -> None:
    found = stepped(TemporalSpec(RATE, 9, "carried", 0.5), VECTORS[:6], every(0.25, 6))
    assert found == pytest.approx(whole(VECTORS[:6]), abs=1e-6)


@given(st.lists(st.floats(-0.12, 0.12), min_size=2, max_size=20), st.floats(0, 1000))
def test_jitter_of_timestamps_changes_nothing(jitter: list[float], start_s: float) -> None:
    """Each frame up to an eighth of a frame's duration early or late."""
    times_s = [start_s + (i + off) / RATE for i, off in enumerate(jitter)]
    found = stepped(TemporalSpec(RATE, 99, "carried", 0.5), VECTORS[: len(jitter)], times_s)
    assert found == pytest.approx(whole(VECTORS[: len(jitter)]), abs=1e-6)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=39))
def test_no_more_steps_than_the_trained_rate_gives(gaps_s: list[float]) -> None:
    times_s = np.cumsum([0.0, *gaps_s]).tolist()
    found = stepped(TemporalSpec(RATE, 99, "carried", 0.5), VECTORS[: len(times_s)], times_s)
    changes = 1 + int((np.abs(np.diff(found, axis=0)).max(axis=1) > 0).sum())
    assert changes <= times_s[-1] * RATE + 1.25
