import pytest
import torch
from torch import nn

from model_core.affect import LABEL_SETS
from model_core.models.ddamfn import MixedDepthwise
from model_core.models.folding import folded, merged
from model_core.models.heads import AffectNetwork
from model_core.models.registry import BACKBONES, build_network
from model_core.models.spec import NetworkSpec


def trained_looking(backbone: str) -> AffectNetwork:
    """Seeded weights, with norms that have seen something."""
    torch.manual_seed(3)
    network = build_network(NetworkSpec(backbone, ("valence_arousal", "expression"), LABEL_SETS["ferplus"]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_says_the_same_in_its_folded_form(backbone: str) -> None:
    network, images = trained_looking(backbone), torch.randn(2, 3, 112, 112)
    with torch.inference_mode():
        expected, found = network(images), folded(network)(images)
    torch.testing.assert_close(found.expression, expected.expression, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.valence_arousal, expected.valence_arousal, atol=1e-4, rtol=1e-4)
    assert expected.expression.std() > 1e-3  # it says something at all


def test_nothing_is_left_to_fold_and_the_original_is_untouched() -> None:
    network = trained_looking("ddamfn")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modules = list(folded(network).modules())
    assert not [module for module in modules if isinstance(module, nn.BatchNorm2d | MixedDepthwise)]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("stride", [1, 2])
def test_merged_kernels_by_hand(stride: int) -> None:
    mixed = MixedDepthwise([(3, 2), (7, 1)], stride)
    one = merged(mixed)
    assert one.kernel_size == (7, 7)
    assert one.weight[0, 0, 2:5, 2:5].equal(mixed.mixed_depthwise_conv[0].weight[0, 0])
    assert one.weight[0, 0, :2].abs().sum() == 0
    x = torch.randn(1, 3, 14, 14)
    torch.testing.assert_close(one(x), mixed(x))
