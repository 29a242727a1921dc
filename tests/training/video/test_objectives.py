"""Losses on sequences, by hand; the published code's flattening and its double softmax would change these numbers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_core.affect import Task
from model_core.losses import contrastive_loss
from model_core.models.heads import AffectNetwork, PromptHead
from training.datasets.sequences import Sequence, SequenceTargets
from training.video.batches import SequenceBatch
from training.video.config import SequenceLossConfig
from training.video.objectives import build_objective
from training.video.tracks import Track

PLAIN = SequenceLossConfig()


def network(task: Task, width: int) -> AffectNetwork:
    """A head that lets features through."""
    return AffectNetwork(nn.Identity(), {task: nn.Identity()})


def batch(features: list, target: list, mask: list) -> SequenceBatch:
    return SequenceBatch(*(torch.tensor(values, dtype=torch.float32) for values in (features, target, mask)))


def track(expression: np.ndarray | None = None, units: np.ndarray | None = None) -> Track:
    count = len(expression if expression is not None else units if units is not None else ())
    zeros = np.zeros
    targets = SequenceTargets(
        valence_arousal=zeros((count, 2), np.float32),
        valence_arousal_mask=zeros(count, np.float32),
        expression=zeros((count, 2), np.float32) if expression is None else expression.astype(np.float32),
        expression_mask=zeros(count, np.float32) + (expression is not None),
        action_units=zeros((count, 12), np.float32) if units is None else units.astype(np.float32),
        action_units_mask=zeros((count, 12), np.float32) + (units is not None),
    )
    sequence = Sequence("v", "", "train", (None,) * count, targets)
    return Track(sequence, zeros((count, 2), np.float32), np.ones(count, dtype=bool))


def test_each_frame_is_a_row_of_its_own() -> None:
    # Two frames with logits (0, 0) and (ln 3, 0): the right class has 1/2 and 3/4; a masked third frame counts nothing.
    rows = batch([[[0, 0], [math.log(3), 0], [9, 0]]], [[[1, 0], [1, 0], [0, 0]]], [[1, 1, 0]])
    objective = build_objective("expression", [track(np.eye(2))], PLAIN)
    loss = objective(network("expression", 2), rows)
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_logit_adjustment_adds_the_shares_of_the_classes() -> None:
    seen = np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
    objective = build_objective("expression", [track(seen)], SequenceLossConfig(logit_adjustment=1.0))
    # Equal logits and shares of 3/4 and 1/4: the rare class is told by its share, with 1/4.
    loss = objective(network("expression", 2), batch([[[0, 0]]], [[[0, 1]]], [[1]]))
    assert loss.item() == pytest.approx(math.log(4))


def test_units_weigh_their_rare_positives() -> None:
    units = np.zeros((5, 12))
    units[0, 0] = 1  # four negatives for a positive; the others have none, and would weigh the most allowed
    mask = [[[1] + [0] * 11]]
    answer = batch([[[0] * 12]], [[[1] + [0] * 11]], mask)
    plain = build_objective("action_units", [track(units=units)], PLAIN)(network("action_units", 12), answer)
    weighted = build_objective("action_units", [track(units=units)], SequenceLossConfig(positive_weight=10.0))
    assert plain.item() == pytest.approx(math.log(2))
    assert weighted(network("action_units", 12), answer).item() == pytest.approx(4 * math.log(2))


def test_valence_and_arousal_are_concordant_over_all_frames_of_a_batch() -> None:
    values = [[[0.1, -0.2], [0.3, 0.4]], [[-0.5, 0.6], [0.2, -0.7]]]
    objective = build_objective("valence_arousal", [], PLAIN)

    class Through(AffectNetwork):
        def apply_heads(self, encoded: Tensor):
            return type("Logits", (), {"valence_arousal": encoded})()

    loss = objective(Through(nn.Identity(), {}), batch(values, values, [[1, 1], [1, 1]]))
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_the_contrastive_loss_of_two_opposite_faces() -> None:
    image = text = torch.tensor([[1.0, 0], [-1, 0]])
    loss = contrastive_loss(image, text, torch.tensor([0, 1]), temperature=1.0)
    # Logits and soft targets are both (1, -1): the loss is the entropy of softmax(1, -1).
    share = 1 / (1 + math.exp(-2))
    assert loss.item() == pytest.approx(-share * math.log(share) - (1 - share) * math.log(1 - share), abs=1e-6)


def test_faces_of_one_label_are_each_others_targets() -> None:
    image = torch.tensor([[1.0, 0], [1, 0]])
    loss = contrastive_loss(image, torch.tensor([[1.0, 0]]), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(math.log(2))  # no pair is wrong, and none is told apart


def test_prompts_are_trained_by_the_contrastive_loss() -> None:
    head = PromptHead(2, labels=2, text_size=2)
    head.load_state_dict({"adapter.weight": torch.eye(2), "adapter.bias": torch.zeros(2), "text": torch.eye(2)})
    objective = build_objective("expression", [track(np.eye(2))], PLAIN)
    rows = batch([[[3, 0], [0, 2], [5, 5]]], [[[1, 0], [0, 1], [0, 0]]], [[1, 1, 0]])
    expected = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
    loss = objective(AffectNetwork(nn.Identity(), {"expression": head}), rows)
    assert loss.item() == pytest.approx(expected.item())
