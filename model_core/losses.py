"""Masked multi-task losses on AffectLogits. A loss is a scalar; a mask is 1 for entries that count, else 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model_core.affect import AffectLogits, AffectTarget


def soft_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [B, C] against distributions [B, C], over the rows of mask [B].

    The mask may hold weights: then it is their weighted mean.
    """
    return _masked_mean(-(target * F.log_softmax(logits, dim=1)).sum(dim=1), mask)


def soft_binary_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits [B, U] against targets [B, U] in [0, 1], over mask [B, U]."""
    return _masked_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), mask)


def ccc_loss(estimate: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - the mean concordance over the columns of estimate and target [B, D], over the rows of mask [B].

    Source: the valence-arousal loss of arXiv 2503.12260. With fewer than two rows concordance is undefined; the loss
    is then 0 and has no gradient.
    """
    weight = mask[:, None] / mask.sum().clamp(min=1.0)
    mean_e = (estimate * weight).sum(0)
    mean_t = (target * weight).sum(0)
    deviation_e = estimate - mean_e
    deviation_t = target - mean_t
    covariance = (deviation_e * deviation_t * weight).sum(0)
    variances = (deviation_e.square() * weight).sum(0) + (deviation_t.square() * weight).sum(0)
    ccc = 2 * covariance / (variances + (mean_e - mean_t).square() + 1e-8)
    return (1 - ccc.mean()) * (mask.sum() >= 2)


def contrastive_loss(image: Tensor, text: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Return the contrastive loss with soft targets between faces and the prompts of their labels.

    `image` [N, D] and `text` [C, D] have rows of length 1, and `labels`, int64 [N], are rows of `text`. Faces with
    similar images or the same prompt are targets of each other: softmax((t t' + i i') / (2 temperature)), where t is a
    face's prompt and i its image. Source: the CLIP systems of arXiv 2503.12260.
    """
    prompts = text[labels]
    logits = prompts @ image.T / temperature
    similarity = (prompts @ prompts.T + image @ image.T) / (2 * temperature)
    targets = similarity.softmax(dim=1)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


def relative_squared_error(logits: Tensor, target: Tensor, mask: Tensor, variance: Tensor) -> Tensor:
    """Return the squared error of the sigmoids of logits [B, U], relative to the variance of the targets [B, U].

    It is the mean over units of 1 - R^2. `variance` [U] is each target's variance over the data, and mask [B, U]
    selects the entries. A unit that seldom varies counts as much as any other here, although its cross-entropy is close
    to zero.
    """
    return _masked_mean((logits.sigmoid() - target).square() / variance, mask)


def change_loss(logits: Tensor, at_rest: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of what faces show beyond the same faces at rest, over mask [B, U].

    The logits [B, U] of a face less those of the same face at rest, `at_rest` [B, U], are taken as those of a face
    whose logits at rest are the mean of all. So a network learns to tell movements, whose targets [B, U] are in [0, 1],
    from the looks of a person.
    """
    return soft_binary_cross_entropy(logits - at_rest + at_rest.detach().mean(dim=0), target, mask)


def vector_loss(vectors: Tensor, taught: Tensor) -> Tensor:
    """Return the squared error of vectors [B, D] from those of a teacher, relative to their variance over the B faces.

    It is the mean over components of 1 - R^2. With fewer than two faces it is 0 and has no gradient.
    """
    variance = taught.var(dim=0, correction=0)
    return (
        ((vectors - taught).square().mean(dim=0) / (variance + 1e-3)).mean() if len(taught) > 1 else vectors.sum() * 0
    )


def attention_distances(maps: Sequence[Tensor]) -> Tensor:
    """Return each face's mean squared distance [B] between attention maps [B, ...], over elements and pairs of maps."""
    distances = [(a - b).square().flatten(1).mean(dim=1) for i, a in enumerate(maps) for b in maps[i + 1 :]]
    return torch.stack(distances).mean(dim=0)


def attention_loss(distances: Tensor, epsilon: float = 5e-2) -> Tensor:
    """Return 1 / (mean of `attention_distances` [B] + epsilon), which pushes attention heads apart.

    Source: DDAMFN (Zhang et al., Electronics 2023). Its published form has no `epsilon`, and is infinite if two heads
    agree.
    """
    return 1 / (distances.mean() + epsilon)


def consistency_loss(one: AffectLogits, other: AffectLogits) -> Tensor:
    """Return the mean squared difference between the answers to two views of the same B faces, summed over tasks.

    Valence-arousal is compared as it is, expressions and action units as probabilities. With no faces it is 0.
    """
    differences = []
    if one.valence_arousal is not None and other.valence_arousal is not None:
        differences.append(one.valence_arousal - other.valence_arousal)
    if one.expression is not None and other.expression is not None:
        differences.append(one.expression.softmax(dim=1) - other.expression.softmax(dim=1))
    if one.action_units is not None and other.action_units is not None:
        differences.append(one.action_units.sigmoid() - other.action_units.sigmoid())
    return torch.stack([values.square().sum() / max(values.numel(), 1) for values in differences]).sum()


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term in the total loss; 0 leaves a term out."""

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

    consistency: float = 0.0
    """Weight of `consistency_loss` between both views of the faces that a batch repeats."""

    vector: float = 0.0
    """Weight of the `vector_loss` of the faces that a teacher reads, too."""

    change: float = 0.0
    """Weight of the `change_loss` of rendered faces, which are compared with the same person at rest."""


def affect_losses(logits: AffectLogits, target: AffectTarget) -> Mapping[str, Tensor]:
    """Return the loss of each task that the network has, by task name."""
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
