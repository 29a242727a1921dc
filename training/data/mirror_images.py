"""Answers of networks whose bundles average a face with its mirror image, as the service's encoder does."""

import torch
from torch import Tensor, nn

from model_core.affect import AffectLogits
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec


def logits_of(network: AffectNetwork, images: Tensor, spec: InputSpec) -> AffectLogits:
    """Return logits for images, float32 [B, 3, S, S]; `spec` tells whether those of mirror images are averaged in."""
    logits: AffectLogits = network(images)
    if not spec.with_mirror_image:
        return logits
    mirrored = vars(network(images.flip(-1)))
    means = {task: None if part is None else (part + mirrored[task]) / 2 for task, part in vars(logits).items()}
    return AffectLogits(**means)


def vectors_of(backbone: nn.Module, images: Tensor, spec: InputSpec) -> Tensor:
    """Return a backbone's vectors [B, D] for images; see `logits_of`."""
    vectors: Tensor = backbone(images)
    return torch.lerp(vectors, backbone(images.flip(-1)), 0.5) if spec.with_mirror_image else vectors
