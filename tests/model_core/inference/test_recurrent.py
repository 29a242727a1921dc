"""LSTM and heads in NumPy against torch's."""

import numpy as np
import pytest
import torch

from model_core.inference.networks import concatenated
from model_core.inference.recurrent import RecurrentNetwork
from model_core.models.heads import AffectNetwork, PromptHead
from model_core.models.lstm import LSTMEncoder
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from tests.tiny_bundles import TinyBackbone

VECTORS = np.random.default_rng(3).normal(size=(4, 6, 512))
TASKS = ("valence_arousal", "expression", "action_units")


def numpy_form(network: AffectNetwork, widths: dict[str, int]) -> RecurrentNetwork:
    return RecurrentNetwork({name: value.numpy() for name, value in network.state_dict().items()}, widths)


def assert_equal(network: AffectNetwork, found: RecurrentNetwork, tasks: tuple[str, ...]) -> None:
    with torch.inference_mode():
        logits, _ = network.forward_sequence(torch.from_numpy(VECTORS).float())
        expected = concatenated(logits, tasks).numpy()
    assert expected.std(axis=(0, 1)).min() > 1e-3  # the vectors matter
    state = None
    for time in range(VECTORS.shape[1]):
        outputs, state = found.step(VECTORS[:, time], state)
        assert outputs.dtype == np.float64
        assert outputs == pytest.approx(expected[:, time], abs=1e-4)  # those of prompts are up to 100


@pytest.mark.parametrize("hidden", [None, 5])
def test_each_step_is_torchs(hidden: int | None) -> None:
    torch.manual_seed(4)
    spec = NetworkSpec("mfn-pooled", TASKS, ("neutral", "happiness"), hidden, recurrent=16)
    network = build_network(spec, TinyBackbone()).eval()
    assert_equal(network, numpy_form(network, dict(spec.widths)), TASKS)


def test_prompts_are_torchs() -> None:
    torch.manual_seed(5)
    head = PromptHead(16, 3, 8)
    torch.nn.init.normal_(head.text)
    network = AffectNetwork(torch.nn.Identity(), {"expression": head}, LSTMEncoder(512, 16)).eval()
    assert_equal(network, numpy_form(network, {"expression": 3}), ("expression",))


def test_large_gates_do_not_overflow() -> None:
    network = AffectNetwork(torch.nn.Identity(), {"expression": torch.nn.Linear(2, 1)}, LSTMEncoder(512, 2)).eval()
    for parameter in network.recurrent.parameters():
        torch.nn.init.constant_(parameter, 100.0)
    outputs, _ = numpy_form(network, {"expression": 1}).step(np.full((1, 512), -100.0), None)
    assert np.isfinite(outputs).all()


def test_a_head_without_weights_is_refused() -> None:
    network = AffectNetwork(torch.nn.Identity(), {}, LSTMEncoder(512, 2))
    with pytest.raises(ValueError, match=r"^missing heads\.expression\.weight$"):
        numpy_form(network, {"expression": 1})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("heads.expression.weight", (2, 2), r"heads\.expression\.weight is \(2, 2\), expected \(1, 2\)"),
        ("heads.expression.bias", (1, 1), r"heads\.expression\.bias is \(1, 1\), expected \(1,\)"),
        ("recurrent.lstm.weight_hh_l0", (8, 3), r"weight_hh_l0 is \(8, 3\), expected \(8, 2\)"),
    ],
)
def test_weights_of_another_shape_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    network = AffectNetwork(torch.nn.Identity(), {"expression": torch.nn.Linear(2, 1)}, LSTMEncoder(512, 2))
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        RecurrentNetwork({**weights, name: np.zeros(shape, np.float32)}, {"expression": 1})
