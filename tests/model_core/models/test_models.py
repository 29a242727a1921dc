from pathlib import Path

import pytest
import torch

from model_core.affect import LABEL_SETS, TASKS
from model_core.bundles.bundle import load_bundle, save_bundle
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import Calibration
from model_core.models.heads import PromptHead
from model_core.models.registry import BACKBONES, build_network
from model_core.models.spec import BACKBONE_SHAPES, BackboneShape, EstimatorSpec, NetworkSpec, TowerSpec
from model_core.preprocessing import InputSpec

LABELS = LABEL_SETS["ferplus"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_builds_runs_and_survives_saving(backbone: str, tmp_path: Path) -> None:
    spec = NetworkSpec(backbone, TASKS, LABELS, hidden=16, estimator=EstimatorSpec(6, 8))
    network = build_network(spec).eval()
    # A bundle stores float16, so start from weights that fit.
    network.load_state_dict({k: v.half().to(v.dtype) for k, v in network.state_dict().items()})
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(images)
    assert before.valence_arousal.shape == (2, 2)
    assert before.expression.shape == (2, 8)
    assert before.action_units.shape == (2, 12)
    assert before.unit_changes.shape == (2, 6)
    assert (before.valence_arousal.abs() < 1).all()
    manifest = BundleManifest(
        name="t",
        version="1",
        network=spec,
        input=InputSpec(112, "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "arcface-1"),
        detector="yuface",
        references=dict.fromkeys(TASKS, "derived"),
        calibration=Calibration(),
        licence="Apache-2.0",
        training={},
        quality={},
    )
    save_bundle(tmp_path / "bundle", manifest, network)
    with torch.inference_mode():
        after = load_bundle(tmp_path / "bundle").network(images)
    for task in TASKS:
        assert torch.equal(getattr(before, task), getattr(after, task))


def test_only_the_specified_heads_exist() -> None:
    network = build_network(NetworkSpec("mfn-pooled", ("action_units",)))
    logits = network.eval().forward_vectors(torch.zeros(3, 512))
    assert logits.valence_arousal is None
    assert logits.expression is None
    assert logits.action_units.shape == (3, 12)


def test_hidden_adds_a_layer_to_every_head() -> None:
    network = build_network(NetworkSpec("mfn-pooled", ("valence_arousal", "expression"), LABELS, hidden=32))
    assert sum(p.numel() for p in network.heads["expression"].parameters()) == (512 + 1) * 32 + (32 + 1) * 8
    assert sum(p.numel() for p in network.heads["valence_arousal"].parameters()) == (512 + 1) * 32 + (32 + 1) * 2


def test_a_temporal_network_sees_a_frame_alone_as_a_tracks_first() -> None:
    torch.manual_seed(1)
    network = build_network(NetworkSpec("mfn-pooled", TASKS, LABELS, recurrent=5, estimator=EstimatorSpec(6, 8))).eval()
    vectors = torch.randn(2, 4, 512)
    with torch.inference_mode():
        alone = network.forward_vectors(vectors[:, 0])
        whole, end = network.forward_sequence(vectors)
        start, middle = network.forward_sequence(vectors[:, :3])
        rest, same_end = network.forward_sequence(vectors[:, 3:], middle)
    for task in TASKS:
        sequence = getattr(whole, task)
        assert sequence.shape[:2] == (2, 4)
        torch.testing.assert_close(getattr(alone, task), sequence[:, 0])
        torch.testing.assert_close(torch.cat([getattr(start, task), getattr(rest, task)], dim=1), sequence)
    torch.testing.assert_close(end, same_end)


def test_without_memory_a_sequence_is_its_frames() -> None:
    network = build_network(NetworkSpec("mfn-pooled", ("action_units",), hidden=3)).eval()
    vectors = torch.randn(2, 4, 512)
    with torch.inference_mode():
        logits, state = network.forward_sequence(vectors)
        torch.testing.assert_close(logits.action_units[:, 2], network.forward_vectors(vectors[:, 2]).action_units)
    assert state is None


def test_prompts_are_told_by_their_angle() -> None:
    head = PromptHead(2, labels=2, text_size=2)
    head.load_state_dict(
        {"adapter.weight": torch.eye(2), "adapter.bias": torch.zeros(2), "text": torch.tensor([[1.0, 0], [0.6, 0.8]])}
    )
    # (3, 4) has the direction (0.6, 0.8): cosines 0.6 and 1.
    torch.testing.assert_close(head(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 1.0]]) / 0.07)


TOWER = TowerSpec({"image_size": 32}, 8, quick_gelu=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "resnet"}, "unknown backbone 'resnet'; known: ddamfn"),
        ({"tasks": ()}, "tasks must be some of"),
        ({"tasks": ("expression", "gaze")}, "tasks must be some of"),
        ({"tasks": ("expression", "expression")}, "each once"),
        ({"labels": ()}, "the expression task needs labels"),
        ({"labels": ("neutral", "neutral")}, "each once"),
        ({"tasks": ("action_units",)}, "no other task has any"),
        ({"hidden": 0}, "hidden"),
        ({"hidden": -4}, "hidden"),
        ({"recurrent": 0}, "hidden and recurrent must be positive"),
        ({"backbone": "clip"}, "the backbone clip needs a tower"),
        ({"tower": TOWER}, "no other backbone has one"),
        ({"backbone": "clip", "tower": TOWER, "hidden": 4}, "without a hidden layer"),
    ],
)
def test_an_impossible_spec_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpec(**{"backbone": "ddamfn", "tasks": ("expression",), "labels": LABELS, **values})


def test_sizes_are_known_without_the_classes() -> None:
    assert {
        name: BackboneShape(backbone.vector_size, backbone.input_size) for name, backbone in BACKBONES.items()
    } == BACKBONE_SHAPES
