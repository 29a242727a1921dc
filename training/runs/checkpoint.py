"""The files of a run: `last.pt` with all that a killed run needs to continue, and `best.pt` with its best weights."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_core.bundles.manifest import parse_input, parse_network
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run; the message says which."""


@dataclass
class Progress:
    """The position of a run, and what it has measured so far."""

    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps taken in the current epoch."""
    loss: float = 0.0
    """Running mean of the loss over recent steps of the current epoch."""
    best_score: float = float("-inf")
    """Highest validation score so far, that of `best.pt`."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A record of each completed epoch: its number, its loss and its validation measures."""


@dataclass(frozen=True)
class TrainedNetwork:
    """The content of a `best.pt`: weights, with all that is needed to use them."""

    spec: NetworkSpec
    input: InputSpec
    weights: dict[str, Tensor]
    training: dict[str, Any]
    """The configuration, the data it was trained on and the validation measures, as plain JSON values.

    The data are `prepared` (PreparedInfo) for a run on still pictures, and `videos` for one on video data.
    """

    @property
    def on_videos(self) -> bool:
        """True for a run on video data, False for one on still pictures."""
        return "videos" in self.training

    def build(self) -> AffectNetwork:
        """Return a new network with these weights, in evaluation mode."""
        network = build_network(self.spec)
        network.load_state_dict(self.weights)
        return network.eval()


def other_configuration(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> CheckpointError:
    """Return the error for a checkpoint that was made with another configuration; it names the keys that differ."""
    old, new = _flat(before), _flat(now)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return CheckpointError(f"{path} was made with another configuration ({', '.join(keys)}); choose another run folder")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables by their dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}


def save_atomically(content: Any, path: Path) -> None:
    """Write `content` with torch.save through a temporary file, so that `path` is never half-written."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_plain(path: Path) -> Any:
    """Return the tensors and plain containers of a file; nothing in it is executed. Raises CheckpointError."""
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
    """Read a file of `save_trunk`; return None where it is another kind of checkpoint. Raises CheckpointError."""
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
