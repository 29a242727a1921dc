import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model_core.affect import LABEL_SETS
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from tests.fakes import formula_state, upstream_keys

GOLDEN = json.loads((Path(__file__).parent / "ddamfn_golden.json").read_text())
SPEC = NetworkSpec("ddamfn", ("expression",), LABEL_SETS["affectnet8"])


def live_state(network: nn.Module) -> Mapping[str, Tensor]:
    """The formula's values for the entries that the network has, under its names."""
    upstream = formula_state()
    names = {name: name.removeprefix("backbone.").replace("heads.expression.", "fc.") for name in network.state_dict()}
    return {name: upstream[theirs] for name, theirs in names.items()}


@pytest.fixture(scope="module")
def reference() -> Mapping[str, Tensor]:
    """Everything the network computes with formula-set weights, in float64."""
    network = build_network(SPEC).double().eval()
    network.load_state_dict(live_state(network))
    c, h, w = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (3, 112, 112)), indexing="ij")
    with torch.inference_mode():
        parts = network.backbone.parts(torch.sin(0.1 * (c + 1) * h + 0.07 * w)[None])
        logits = network.forward_vectors(parts.vector).expression
    assert logits is not None
    return {
        "logits": logits[0],
        "vector": parts.vector[0],
        "features_abs_mean": parts.features.abs().mean(),
        "head_means": torch.stack([head.mean() for head in parts.attention]),
    }


def test_the_listed_keys_are_the_published_ones() -> None:
    keys = upstream_keys()
    assert len(keys) == len(dict(keys)) == 1190
    assert keys[0] == ("features.0.conv.weight", (64, 3, 3, 3))


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("logits", "logits"),
        ("features_abs_mean", "features_abs_mean"),
        ("head_means", "head_means"),
    ],
)
def test_the_network_agrees_with_the_reference(reference: Mapping[str, Tensor], name: str, golden: str) -> None:
    expected = torch.tensor(GOLDEN[golden], dtype=torch.float64)
    torch.testing.assert_close(reference[name], expected, rtol=0, atol=1e-9)


def test_the_vector_agrees_with_the_reference(reference: Mapping[str, Tensor]) -> None:
    vector = reference["vector"]
    assert vector.shape == (512,)
    assert vector.norm().item() == pytest.approx(GOLDEN["vector_norm"], abs=1e-9)
    assert vector[:8].tolist() == pytest.approx(GOLDEN["vector_first_8"], abs=1e-9)


def test_live_parameters_and_entries() -> None:
    network = build_network(SPEC)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_106_512
    assert len(network.state_dict()) == 1190 - 221


def test_shapes_and_ranges_of_the_parts() -> None:
    network = DDAMFN().eval()
    with torch.inference_mode():
        parts = network.parts(torch.zeros(1, 3, 112, 112))
    assert parts.vector.shape == (1, 512)
    assert parts.features.shape == (1, 512, 7, 7)
    assert [tuple(head.shape) for head in parts.attention] == [(1, 512, 7, 7)] * 2
    assert all(((head > 0) & (head < 1)).all() for head in parts.attention)


@pytest.mark.parametrize("size", [56, 32])
def test_the_pooled_network_takes_small_inputs(size: int) -> None:
    with torch.inference_mode():
        assert PooledMFN().eval()(torch.zeros(2, 3, size, size)).shape == (2, PooledMFN.vector_size)


def test_start_from_takes_over_trunk_norm_and_mean() -> None:
    pooled, network = PooledMFN().eval(), DDAMFN().eval()
    nn.init.normal_(pooled.bn.weight)
    nn.init.normal_(pooled.bn.running_mean)
    network.start_from(pooled)
    trunk = pooled.features.state_dict()
    assert all(torch.equal(value, trunk[name]) for name, value in network.features.state_dict().items())
    torch.testing.assert_close(network.Linear.conv.weight, torch.full((512, 1, 7, 7), 1 / 49), rtol=0, atol=1e-9)
    image = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        # With gates of 1 the two networks are the same.
        full = network.Linear(network.features(image)).flatten(1)
        torch.testing.assert_close(full, pooled(image), rtol=1e-4, atol=1e-5)


def test_start_from_copies() -> None:
    pooled, network = PooledMFN(), DDAMFN()
    network.start_from(pooled)
    before = network.Linear.bn.bias.clone()
    nn.init.constant_(pooled.bn.bias, 7)
    assert torch.equal(network.Linear.bn.bias, before)
