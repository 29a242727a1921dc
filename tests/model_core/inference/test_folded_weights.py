"""Weights folded in NumPy are those of the network that torch folds."""

import numpy as np
import pytest
from torch import nn

from model_core.inference.folded_weights import folded_weights
from model_core.models.ddamfn import MixedBlock
from model_core.models.folding import folded
from tests.fakes import settled


def test_a_norm_by_hand() -> None:
    weights = {
        "a.conv.weight": np.array([[[[3.0]]], [[[4.0]]]], np.float16),
        "a.bn.weight": np.array([2.0, 1.0], np.float16),
        "a.bn.bias": np.array([0.5, 0.0], np.float16),
        "a.bn.running_mean": np.array([1.0, 0.0], np.float16),
        "a.bn.running_var": np.array([4.0, 1.0], np.float16),
        "a.prelu.weight": np.array([0.25, 0.25], np.float16),
    }
    found = folded_weights(weights)
    assert sorted(found) == ["a.conv.bias", "a.conv.weight", "a.prelu.weight"]
    assert found["a.conv.weight"].ravel() == pytest.approx([3, 4], abs=1e-4)  # twice the kernel over a spread of 2
    assert found["a.conv.bias"] == pytest.approx([-0.5, 0], abs=1e-4)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_torch_folds_to_the_same() -> None:
    mixed = MixedBlock(8, 8, [(3, 4), (5, 6), (7, 2)], skip=True)
    block = settled(nn.Sequential(nn.Conv2d(3, 8, 1), mixed), 12, seed=1)
    state = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
    weights = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    expected = {name: tensor.numpy() for name, tensor in folded(block).state_dict().items()}
    found = folded_weights(weights)
    assert found.keys() == expected.keys()
    assert found["1.conv_dw.weight"].shape == (12, 1, 7, 7)
    for name, array in expected.items():
        assert found[name] == pytest.approx(array, abs=1e-5), name
