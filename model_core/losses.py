"""Masked multi-task losses on AffectLogits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model_core.affect import AffectLogits, AffectTarget


def soft_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy of logits [B, C] against distributions [B, C] over the rows with mask [B]."""
    return _masked_mean(-(target * F.log_softmax(logits, dim=1)).sum(dim=1), mask)


def soft_binary_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits [B, U] against targets [B, U] in [0, 1] over the entries of mask [B, U]."""
    return _masked_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), mask)


def ccc_loss(estimate: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 - the mean concordance over the columns of estimate and target [B, D], rows with mask [B] (PAPER section 1).

    With fewer than two rows concordance is undefined: the loss is then 0, and gives no gradient.
    """
    weight = mask[:, None] / mask.sum().clamp(min=1.0)
    mean_e, mean_t = (estimate * weight).sum(0), (target * weight).sum(0)
    deviation_e, deviation_t = estimate - mean_e, target - mean_t
    covariance = (deviation_e * deviation_t * weight).sum(0)
    variances = (deviation_e.square() * weight).sum(0) + (deviation_t.square() * weight).sum(0)
    ccc = 2 * covariance / (variances + (mean_e - mean_t).square() + 1e-8)
    return (1 - ccc.mean()) * (mask.sum() >= 2)


def contrastive_loss(image: Tensor, text: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Soft-target contrastive loss of faces and the sentences of their labels (PAPER section 1).

    image [N, D] and text [C, D] of length 1, labels int64 [N] into text. Faces that look alike, or say the same, are
    targets of each other: softmax((t t' + i i') / (2 temperature)).
    """
    sentence = text[labels]
    logits = sentence @ image.T / temperature
    likeness = (sentence @ sentence.T + image @ image.T) / (2 * temperature)
    targets = likeness.softmax(dim=1)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


def relative_squared_error(logits: Tensor, target: Tensor, mask: Tensor, variance: Tensor) -> Tensor:
    """Squared error of sigmoids [B, U] as a share of each target's variance [U] over the data, where mask is 1.

    1 - R^2 of each unit: what a unit that seldom moves lacks counts as much here as what one lacks that often does,
    while its cross-entropy is next to nothing.
    """
    return _masked_mean((logits.sigmoid() - target).square() / variance, mask)


def attention_distances(maps: Sequence[Tensor]) -> Tensor:
    """[B]: each face's squared distance between attention heads' maps [B, ...], a mean over elements and head pairs."""
    distances = [(a - b).square().flatten(1).mean(dim=1) for i, a in enumerate(maps) for b in maps[i + 1 :]]
    return torch.stack(distances).mean(dim=0)


def attention_loss(distances: Tensor, epsilon: float = 5e-2) -> Tensor:
    """Pushes attention heads apart: 1 / (the mean of `attention_distances` [B] + epsilon) (PAPER section 2).

    `epsilon` bounds the published form, which is infinite where two heads agree.
    """
    return 1 / (distances.mean() + epsilon)


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term in the total loss; 0 leaves a term out."""

    expression: float = 1.0
    """Weight of `soft_cross_entropy`."""
    valence_arousal: float = 0.5
    """Weight of `ccc_loss`."""
    action_units: float = 1.0
    """Weight of `soft_binary_cross_entropy`."""
    attention: float = 0.1
    """Weight of `attention_loss`, for backbones with several attention heads."""
    unit_error: float = 0.0
    """Weight of the action units' `relative_squared_error`."""


def affect_losses(logits: AffectLogits, target: AffectTarget) -> Mapping[str, Tensor]:
    """Each task's loss, by task name, for the tasks the network has."""
    losses = {}
    if logits.expression is not None:
        losses["expression"] = soft_cross_entropy(logits.expression, target.expression, target.expression_mask)
    if logits.valence_arousal is not None:
        losses["valence_arousal"] = ccc_loss(
            logits.valence_arousal, target.valence_arousal, target.valence_arousal_mask
        )
    if logits.action_units is not None:
        losses["action_units"] = soft_binary_cross_entropy(
            logits.action_units, target.action_units, target.action_units_mask
        )
    return losses


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1.0)
