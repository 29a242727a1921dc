"""Checkpoints: all that a killed run needs to go on. Written to a temporary name first, so never half-written."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_core.bundles.manifest import parse_input, parse_network
from model_core.models import NetworkSpec, build_network
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run."""


@dataclass
class Progress:
    """Where a run stands: the next step within an epoch, the epoch's recent mean loss, the best score on validation."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_score: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainedNetwork:
    """Weights with what is needed to use them, read from `best.pt`."""

    spec: NetworkSpec
    input: InputSpec
    weights: dict[str, Tensor]
    training: dict[str, Any]
    """data set, detector, `derived`, configuration and validation measures, as plain values."""

    def build(self) -> AffectNetwork:
        """A network of its own with these weights, in evaluation mode."""
        network = build_network(self.spec)
        network.load_state_dict(self.weights)
        return network.eval()


def other_configuration(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> CheckpointError:
    """The error of a checkpoint that was made with another configuration; it names the keys that differ."""
    old, new = _flat(before), _flat(now)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return CheckpointError(f"{path} was made with another configuration ({', '.join(keys)}); choose another run folder")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}


def save_atomically(content: Any, path: Path) -> None:
    """torch.save through a temporary file beside `path`, flushed to disk before it takes the name."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_plain(path: Path) -> Any:
    """Load tensors and plain containers only; nothing in the file is executed. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except Exception as error:  # torch raises many kinds for damaged or unsafe files
        raise CheckpointError(f"{path} is not a checkpoint of plain tensors ({type(error).__name__})") from error


def save_trunk(weights: Mapping[str, Tensor], source: str, path: Path) -> None:
    """Write the state of a mixed feature trunk alone (`mixed_feature_trunk`), with the name of the file it is from."""
    save_atomically({"trunk": dict(weights), "source": source}, path)


def load_trunk(path: Path) -> dict[str, Tensor] | None:
    """Read what `save_trunk` wrote; None where a file is something else. Raises CheckpointError."""
    content = load_plain(path)
    trunk = content.get("trunk") if isinstance(content, dict) else None
    return trunk if isinstance(trunk, dict) else None


def save_trained(trained: TrainedNetwork, path: Path) -> None:
    """Write a `best.pt`."""
    content = {
        "spec": json.dumps(asdict(trained.spec)),
        "input": json.dumps(asdict(trained.input)),
        "weights": trained.weights,
        "training": json.dumps(trained.training),
    }
    save_atomically(content, path)


def load_trained(path: Path) -> TrainedNetwork:
    """Read a `best.pt`. Raises CheckpointError."""
    content = load_plain(path)
    try:
        return TrainedNetwork(
            spec=parse_network(json.loads(content["spec"])),
            input=parse_input(json.loads(content["input"])),
            weights=content["weights"],
            training=json.loads(content["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a trained network of this version ({error})") from error
