"""Columns counted by hand, and the layouts of real bundles against what their networks compute."""

import pytest
import torch

from model_core.affect import LEARNED_TASKS, AffectLogits, Task
from model_core.bundles.manifest import BundleManifest, TemporalSpec
from model_core.inference.layout import EncoderLayout, FeatureLayout, OutputLayout
from model_core.inference.networks import concatenated
from tests.tiny_bundles import TinyBackbone, tiny_bundle

SPEC = TemporalSpec(10.0, 3, "carried", 0.5)


def manifest(*tasks: Task, temporal: bool = False) -> BundleManifest:
    """A bundle's manifest, with eight expression labels and vectors of 512 numbers."""
    return tiny_bundle("any", *tasks, backbone=TinyBackbone(), temporal=SPEC if temporal else None).manifest


AXES = manifest("valence_arousal")
AXES_AND_EXPRESSION = manifest("valence_arousal", "expression")
UNITS = manifest("action_units")
TEMPORAL = manifest("expression", temporal=True)


def test_outputs_are_a_task_after_another() -> None:
    layout = OutputLayout({"valence_arousal": 2, "expression": 8, "action_units": 12})
    assert [layout.columns(task) for task in LEARNED_TASKS] == [slice(0, 2), slice(2, 10), slice(10, 22)]
    with pytest.raises(KeyError, match="expression"):
        OutputLayout({"action_units": 12}).columns("expression")


def test_outputs_are_split_as_they_were_concatenated() -> None:
    logits = AffectLogits(expression=torch.tensor([[1.0, 2, 3]]), action_units=torch.tensor([[4.0, 5]]))
    outputs = concatenated(logits, ("expression", "action_units"))
    assert outputs.tolist() == [[1, 2, 3, 4, 5]]
    layout = OutputLayout({"expression": 3, "action_units": 2})
    again = layout.split(outputs.double().numpy())
    assert {task: columns.tolist() for task, columns in again.items()} == {
        "expression": [[1, 2, 3]],
        "action_units": [[4, 5]],
    }
    assert outputs[:, layout.columns("action_units")].tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("manifests", "expected"),
    [
        ([AXES], EncoderLayout((slice(0, 2),), framewise=(0,), has_vector=False, width=2)),
        ([TEMPORAL], EncoderLayout((slice(0, 512),), framewise=(), has_vector=True, width=512)),
        # The drawing in the docstring: 10 outputs, 12 outputs, and the vector that two bundles read.
        (
            [AXES_AND_EXPRESSION, TEMPORAL, UNITS, TEMPORAL],
            EncoderLayout(
                (slice(0, 10), slice(22, 534), slice(10, 22), slice(22, 534)),
                framewise=(0, 2),
                has_vector=True,
                width=534,
            ),
        ),
    ],
    ids=["one framewise", "one temporal", "the drawing"],
)
def test_an_encoder_gives_outputs_and_then_the_vector(manifests: list[BundleManifest], expected: EncoderLayout) -> None:
    assert EncoderLayout.of(manifests) == expected


def test_features_are_an_encoder_after_another_and_bundles_keep_their_order() -> None:
    # Bundles 0 and 2 share the first encoder, and bundle 1 has the second one.
    first, second = EncoderLayout.of([AXES, TEMPORAL]), EncoderLayout.of([UNITS])
    layout = FeatureLayout.of([first, second], [[0, 2], [1]])
    assert layout.columns == (slice(0, 2), slice(514, 526), slice(2, 514))
    assert layout.width == 526
