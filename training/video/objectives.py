"""The loss of each task on sequences (PAPER section 1), with the weights of rare classes and units."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model_core.affect import AffectLogits, Task
from model_core.losses import ccc_loss, contrastive_loss, soft_cross_entropy
from model_core.models.heads import AffectNetwork, PromptHead
from training.video.batches import SequenceBatch
from training.video.config import SequenceLossConfig
from training.video.tracks import Track

Objective = Callable[[AffectNetwork, SequenceBatch], Tensor]


def build_objective(task: Task, tracks: Sequence[Track], config: SequenceLossConfig) -> Objective:
    """Return the loss of a task: 1 - concordance, cross-entropy (contrastive for prompts), or binary cross-entropy.

    tracks: those trained on, for the frequencies of classes and units. In each loss a frame is a row.
    """
    if task == "valence_arousal":
        return lambda network, batch: ccc_loss(*_rows(_logits(network, batch).valence_arousal, batch))
    if task == "action_units":
        weight = _positive_weights(tracks, config.positive_weight)
        return lambda network, batch: _units(network, batch, weight)
    shift = config.logit_adjustment * _log_shares(tracks)
    return lambda network, batch: _expressions(network, batch, shift)


def _logits(network: AffectNetwork, batch: SequenceBatch) -> AffectLogits:
    return network.apply_heads(network.encode(batch.features)[0])


def _rows(outputs: Tensor | None, batch: SequenceBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Flatten outputs [B, L, K], targets and mask to rows [B L, ...]."""
    assert outputs is not None
    return outputs.flatten(0, 1), batch.target.flatten(0, 1), batch.mask.flatten(0, 1)


def _units(network: AffectNetwork, batch: SequenceBatch, weight: Tensor) -> Tensor:
    logits, target, mask = _rows(_logits(network, batch).action_units, batch)
    losses = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (losses * mask).sum() / mask.sum().clamp(min=1.0)


def _expressions(network: AffectNetwork, batch: SequenceBatch, shift: Tensor) -> Tensor:
    head = network.heads["expression"]
    if isinstance(head, PromptHead):
        encoded, _ = network.encode(batch.features)
        seen = batch.mask > 0
        return contrastive_loss(head.embed(encoded[seen]), head.text, batch.target[seen].argmax(dim=1))
    logits, target, mask = _rows(_logits(network, batch).expression, batch)
    return soft_cross_entropy(logits + shift, target, mask)


def _positive_weights(tracks: Sequence[Track], most: float) -> Tensor:
    """Return the negatives per positive of each unit, clipped to [1, most], float32 [12]."""
    target = np.concatenate([track.sequence.targets.action_units for track in tracks])
    mask = np.concatenate([track.sequence.targets.action_units_mask for track in tracks])
    positive = target.sum(axis=0)
    ratio = (mask.sum(axis=0) - positive) / np.maximum(positive, 1)
    return torch.from_numpy(ratio.clip(1, most)).float()


def _log_shares(tracks: Sequence[Track]) -> Tensor:
    """Return the logarithm of each class's share of the labelled frames, float32 [C]; an absent class counts once."""
    counts = np.concatenate([track.sequence.targets.expression for track in tracks]).sum(axis=0)
    return torch.from_numpy(np.log(np.maximum(counts, 1) / max(counts.sum(), 1))).float()
