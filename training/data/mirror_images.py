"""Answers of networks whose bundles read mirror images, too, as the service's encoder does."""

import torch
from torch import Tensor, nn

from model_core.affect import AffectLogits
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec, own_weights


def logits_of(network: AffectNetwork, images: Tensor, spec: InputSpec) -> AffectLogits:
    """Return logits for images, float32 [B, 3, S, S]; `spec` tells how those of mirror images are averaged in."""
    if not _mirrors(spec):
        logits: AffectLogits = network(images)
        return logits
    weights = _weights(images, spec)
    parts = vars(network(_readings(images, weights)))
    return AffectLogits(**{task: None if part is None else _averaged(part, weights) for task, part in parts.items()})


def vectors_of(backbone: nn.Module, images: Tensor, spec: InputSpec) -> Tensor:
    """Return a backbone's vectors [B, D] for images; see `logits_of`."""
    if not _mirrors(spec):
        vectors: Tensor = backbone(images)
        return vectors
    weights = _weights(images, spec)
    return _averaged(backbone(_readings(images, weights)), weights)


def _mirrors(spec: InputSpec) -> bool:
    return spec.with_mirror_image or spec.oriented


def _weights(images: Tensor, spec: InputSpec) -> Tensor:
    """Return the weights of `own_weights`, float32 [B]."""
    return torch.from_numpy(own_weights(images.cpu().numpy(), spec)).to(images.device)


def _readings(images: Tensor, weights: Tensor) -> Tensor:
    """Return the images that weigh anything, then the mirror images that do."""
    return torch.cat([images[weights > 0], images[weights < 1].flip(-1)])


def _averaged(outputs: Tensor, weights: Tensor) -> Tensor:
    """Return the answers to B faces, [B, D], for the outputs of their `_readings`."""
    own, mirrored = weights > 0, weights < 1
    first, second = outputs.split([int(own.sum()), int(mirrored.sum())])
    answers = outputs.new_zeros(len(weights), outputs.shape[1])
    answers[own] = weights[own, None] * first
    answers[mirrored] += (1 - weights[mirrored, None]) * second
    return answers
