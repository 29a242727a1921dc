"""The command that makes the graphs of backbones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.inference import openvino_runtime
from model_core.inference.backbone_graphs import backbone_model, save_graph
from model_core.inference.runtimes import RuntimeOptions
from model_core.models.ddamfn import MixedBlock
from tests.fakes import settled
from training.graphs import graph_of

pytest.importorskip("openvino")


def block() -> torch.nn.Module:
    """One mixed block, whose kernels differ in size, and a vector of its output."""
    mixed = MixedBlock(8, 8, [(3, 4), (5, 4)], skip=True)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), mixed, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def test_weights_are_put_into_a_graph_that_was_made_with_others(tmp_path: Path) -> None:
    save_graph(graph_of(block(), 12), tmp_path / "block.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["block.zip"]
    network = settled(block(), 12, seed=3)
    weights = {
        f"backbone.{key}": value.numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    images = np.random.default_rng(1).normal(size=(4, 3, 12, 12)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    run = openvino_runtime.compiled(backbone_model("block", weights, tmp_path), RuntimeOptions("openvino"))
    assert run(images) == pytest.approx(expected, abs=1e-4)
    assert expected.std(axis=0).max() > 0.01  # the images matter
