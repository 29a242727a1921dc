from pathlib import Path

import pytest
import torch

from model_core.affect import LABEL_SETS, LEARNED_TASKS
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from training.runs.checkpoint import CheckpointError
from training.runs.start import continue_from, freeze

LABELS = LABEL_SETS["ferplus"]


@pytest.mark.parametrize(
    ("names", "hidden"),
    [
        (("ddamfn", "ddamfn-local"), None),
        (("ddamfn", "ddamfn-local"), 16),
        (("ddamfn-local", "ddamfn-local-eyes"), None),
        (("ddamfn-local-eyes", "ddamfn-local-regions"), None),
    ],
)
def test_with_new_features_a_network_answers_as_before(names: tuple[str, str], hidden: int | None) -> None:
    earlier, spec = (NetworkSpec(name, LEARNED_TASKS, LABELS, hidden) for name in names)
    source, network = build_network(earlier).eval(), build_network(spec).eval()
    continue_from(network, spec, source, earlier, Path("run"))
    faces = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before, after = source(faces), network(faces)
    for task in LEARNED_TASKS:
        torch.testing.assert_close(getattr(after, task), getattr(before, task), rtol=0, atol=1e-5)


def test_outputs_for_expressions_are_taken_by_name() -> None:
    earlier = NetworkSpec("mfn-pooled", ("expression",), ("fear", "joy", "anger"), hidden=4)
    spec = NetworkSpec("mfn-pooled", ("valence_arousal", "expression"), ("anger", "awe", "fear"), hidden=4)
    source, network = build_network(earlier), build_network(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    told = continue_from(network, spec, source, earlier, Path("run"))
    new, old = network.state_dict(), source.state_dict()
    for part in ("weight", "bias"):
        name = f"heads.expression.2.{part}"
        assert torch.equal(new[name][[0, 2]], old[name][[2, 0]])  # anger and fear
        assert torch.equal(new[name][1], before[name][1])  # awe is new
        assert torch.equal(new[f"heads.expression.0.{part}"], old[f"heads.expression.0.{part}"])
        assert torch.equal(new[f"heads.valence_arousal.2.{part}"], before[f"heads.valence_arousal.2.{part}"])
    heads = "the head of expression is taken, a new head of valence_arousal, new outputs for awe"
    assert told == f"run: the backbone is taken; {heads}"


def test_a_head_behind_a_memory_is_not_one_for_single_frames() -> None:
    earlier, spec = (NetworkSpec("mfn-pooled", ("action_units",), recurrent=width) for width in (6, None))
    source, network = build_network(earlier), build_network(spec)
    before = network.state_dict()["heads.action_units.weight"].clone()
    assert continue_from(network, spec, source, earlier, Path("run")).endswith("a new head of action_units")
    assert torch.equal(network.state_dict()["heads.action_units.weight"], before)


@pytest.mark.parametrize("names", [("ddamfn-local", "ddamfn"), ("ddamfn-local-eyes", "ddamfn-local")])
def test_a_ddamfn_cannot_drop_features(names: tuple[str, str]) -> None:
    earlier, spec = (NetworkSpec(name, ("action_units",)) for name in names)
    with pytest.raises(CheckpointError, match=f"run: {spec.backbone} cannot continue from a {earlier.backbone}$"):
        continue_from(build_network(spec), spec, build_network(earlier), earlier, Path("run"))


def test_what_is_frozen_is_what_is_called_so() -> None:
    network = build_network(NetworkSpec("ddamfn", ("action_units",)))
    freeze(network, ("features.0.", "mixed_depthwise_conv"))
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert "backbone.features.0.conv.weight" in frozen
    assert "backbone.features.2.conv_dw.mixed_depthwise_conv.0.weight" in frozen
    assert len(frozen) == 4 + 3 + 9 * 2 + 3 + 16 * 2 + 4 + 6 * 3  # the stem's weight, norm and slopes; a kernel a slice


def test_a_name_that_no_parameter_has_is_refused() -> None:
    network = build_network(NetworkSpec("mfn-pooled", ("action_units",)))
    with pytest.raises(ValueError, match=r"network\.frozen: no parameter is called trunk"):
        freeze(network, ("features.0.", "trunk"))
