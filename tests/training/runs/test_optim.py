import math

import pytest
from torch import nn

from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from training.runs.config import OptimizerConfig
from training.runs.optim import build_optimizer, build_schedule


class Backbone(nn.Module):
    """As little of a backbone as the groups need."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.last = nn.Linear(2, 2, bias=False)


def tiny() -> AffectNetwork:
    return AffectNetwork(Backbone(), {"expression": nn.Linear(2, 3)})


def test_groups() -> None:
    config = OptimizerConfig(rate=0.1, weight_decay=0.2)
    network = tiny()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = {
        frozenset(names[id(p)] for p in group["params"]): (group["lr"], group["weight_decay"])
        for group in build_optimizer(network, config, trunk_factor=0.5).param_groups
    }
    assert groups == {
        frozenset({"backbone.features.weight"}): (0.05, 0.2),
        frozenset({"backbone.features.bias"}): (0.05, 0.0),
        frozenset({"backbone.last.weight", "heads.expression.weight"}): (0.1, 0.2),
        frozenset({"backbone.norm.weight", "backbone.norm.bias", "heads.expression.bias"}): (0.1, 0.0),
    }


def test_no_parameter_is_left_out() -> None:
    network = build_network(NetworkSpec("ddamfn", ("action_units",)))
    groups = build_optimizer(network, OptimizerConfig()).param_groups
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(p.numel() for p in network.parameters())


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_warm_up_and_cosine_by_hand() -> None:
    config = OptimizerConfig(rate=0.4, warmup_share=0.2, epochs=1)
    optimizer = build_optimizer(tiny(), config, trunk_factor=0.5)
    schedule = build_schedule(optimizer, config, total_steps=10)
    rates = []
    for _ in range(10):
        rates.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    # Two steps of warm-up, then half a cosine over the other eight.
    factors = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8))]
    assert [rate[0] for rate in rates] == pytest.approx([0.2 * factor for factor in factors])
    assert [rate[-1] for rate in rates] == pytest.approx([0.4 * factor for factor in factors])
    assert factors[6] == pytest.approx(0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_a_single_step_runs_at_the_full_rate() -> None:
    config = OptimizerConfig(rate=0.4, warmup_share=0.0)
    optimizer = build_optimizer(tiny(), config)
    build_schedule(optimizer, config, total_steps=1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)
