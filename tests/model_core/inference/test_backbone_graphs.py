"""The graphs of backbones say what torch's networks say, with any weights."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from model_core.bundles.bundle import Bundle, BundleError, load_bundle
from model_core.inference import openvino_runtime
from model_core.inference.backbone_graphs import FOLDER, backbone_model
from model_core.inference.encoder import Encoder
from model_core.inference.runtimes import RuntimeOptions
from model_core.models.registry import BACKBONES
from model_core.models.spec import BACKBONE_SHAPES
from tests.fakes import settled

OPENVINO = RuntimeOptions("openvino", threads=1)
WITH_GRAPHS = [name for name, shape in BACKBONE_SHAPES.items() if shape.input_size is not None]

pytest.importorskip("openvino")


@pytest.mark.parametrize("name", WITH_GRAPHS)
def test_a_graph_is_the_network_that_torch_runs(name: str) -> None:
    backbone = settled(BACKBONES[name](), 112, seed=1)
    weights = {
        f"backbone.{key}": value.numpy()
        for key, value in backbone.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    images = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = backbone(images).numpy()
    model = backbone_model(name, {**weights, "heads.expression.weight": np.zeros((8, 512), np.float32)})
    largest = float(np.abs(expected).max())
    assert expected.std(axis=0).max() > 0.01  # the images matter
    found = openvino_runtime.compiled(model, OPENVINO)(images.numpy())
    assert found == pytest.approx(expected, abs=1e-4 * largest)
    rounded = openvino_runtime.compiled(model, RuntimeOptions("openvino", "bfloat16", threads=1))
    assert rounded(images.numpy()) == pytest.approx(expected, abs=0.1 * largest)
    assert rounded(images.numpy()[:1]) == pytest.approx(expected[:1], abs=0.1 * largest)


def test_a_backbone_for_any_size_has_no_graph() -> None:
    assert backbone_model("mfn-pooled", {}) is None
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(WITH_GRAPHS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights, name: weights.pop(name), "missing backbone.gate"),
        (lambda weights, name: weights.update({name: np.zeros(1, np.float32)}), "is (1,), expected ("),
        (lambda weights, name: weights.update({"backbone.more": np.zeros(1, np.float32)}), "unexpected backbone.more"),
        (lambda weights, name: weights[name].fill(np.nan), "is not finite float16 or float32"),
    ],
)
def test_weights_that_do_not_fit_are_named(tiny_bundle_dir: Path, change, message: str) -> None:
    whole = load_bundle(tiny_bundle_dir)
    weights = {name: array.copy() for name, array in whole.weights.items()}
    name = next(each for each in weights if each.startswith("backbone."))
    change(weights, name)
    with pytest.raises(BundleError) as caught:
        Encoder([Bundle(whole.manifest, weights, whole.build)], "cpu", OPENVINO)
    assert message.replace("backbone.gate", name) in str(caught.value)
    assert str(caught.value).startswith("bundle tests-only-untrained: ")
    assert "\n" not in str(caught.value)


def test_a_graph_that_is_damaged_is_not_served(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle_dir)
    name = bundle.manifest.network.backbone
    shutil.copy(FOLDER / f"{name}.zip", tmp_path)
    content = (tmp_path / f"{name}.zip").read_bytes()
    (tmp_path / f"{name}.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"the graph of {name} is damaged"):
        backbone_model(name, bundle.weights, tmp_path)


@pytest.mark.parametrize(("alone", "images"), [(1.0, 1), (0.5, 2), (float("nan"), 2)])
def test_an_engine_that_answers_a_single_image_wrongly_is_given_two(alone: float, images: int) -> None:
    ran = []

    def run_model(rows: np.ndarray) -> list[np.ndarray]:
        ran.append(rows.shape)
        return [np.full((len(rows), 3), 1.0 if len(rows) > 1 else alone)]

    model = SimpleNamespace(input=lambda _: SimpleNamespace(get_partial_shape=lambda: [-1, *map(Length, (8, 8, 3))]))
    assert openvino_runtime._least_batch(run_model, model) == images
    assert ran == [(2, 8, 8, 3), (1, 8, 8, 3)]


class Length(NamedTuple):
    """A dimension as OpenVINO has it."""

    value: int

    def get_length(self) -> int:
        return self.value
