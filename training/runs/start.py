"""Where a network's first weights come from, an earlier run, a bundle or an imported trunk, and which of them stay."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from model_core.bundles.bundle import load_bundle
from model_core.models import NetworkSpec
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.heads import AffectNetwork
from model_core.models.local import LocalDDAMFN
from training.runs.checkpoint import CheckpointError, load_trained, load_trunk


def start_from(network: AffectNetwork, spec: NetworkSpec, path: Path) -> None:
    """Initialise a network from a run's `best.pt` or a bundle's folder.

    A DDAMFN may continue from a pooled one, one with local features from either. From an imported `trunk.pt` the trunk
    alone is taken; all above it stays as new. Raises BundleError, CheckpointError.
    """
    if not path.is_dir() and (trunk := load_trunk(path)) is not None:
        try:
            network.backbone.get_submodule("features").load_state_dict(trunk)
        except (AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit the trunk of a {spec.backbone}") from error
        return
    continue_from(network, spec, *_earlier_network(path), path)


def continue_from(
    network: AffectNetwork, spec: NetworkSpec, source: AffectNetwork, earlier: NetworkSpec, path: Path
) -> None:
    """Take over an earlier network's weights; `path` says whose, for the CheckpointError where they do not fit."""
    if (earlier.tasks, earlier.labels, earlier.hidden) != (spec.tasks, spec.labels, spec.hidden):
        raise CheckpointError(f"{path} has other tasks, labels or heads than the new network")
    old, new = source.backbone, network.backbone
    if isinstance(old, PooledMFN) and isinstance(new, DDAMFN):
        new.start_from(old)
    elif earlier.backbone == spec.backbone:
        new.load_state_dict(old.state_dict())
    elif earlier.backbone == "ddamfn" and isinstance(new, LocalDDAMFN):
        new.load_state_dict(old.state_dict(), strict=False)
    else:
        raise CheckpointError(f"{path}: {spec.backbone} cannot continue from a {earlier.backbone}")
    _widen(network.heads, source.heads)


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Leave the parameters whose name contains one of `names` as they are; ValueError where none is called so."""
    for part in names:
        chosen = [parameter for name, parameter in network.named_parameters() if part in name]
        if not chosen:
            raise ValueError(f"network.frozen: no parameter is called {part}")
        for parameter in chosen:
            parameter.requires_grad_(False)


@torch.no_grad()
def _widen(heads: nn.Module, earlier: nn.Module) -> None:
    """Earlier heads, to which what the new vector has behind the old one means nothing yet."""
    for parameter, value in zip(heads.parameters(), earlier.parameters(), strict=True):
        parameter.zero_()[tuple(slice(length) for length in value.shape)] = value


def _earlier_network(path: Path) -> tuple[AffectNetwork, NetworkSpec]:
    if path.is_dir():
        bundle = load_bundle(path)
        return bundle.network, bundle.manifest.network
    trained = load_trained(path)
    return trained.build(), trained.spec
