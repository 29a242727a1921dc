"""Initial weights of a network, from an earlier run, a bundle or an imported trunk, and the parameters to freeze."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from model_core.affect import Task
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.runs.checkpoint import CheckpointError, load_trained, load_trunk
from training.runs.trained import load_evaluable


def start_from(network: AffectNetwork, spec: NetworkSpec, path: Path, input_spec: InputSpec | None = None) -> str:
    """Initialise a network from a run's folder or `best.pt`, a bundle's folder, or an imported `trunk.pt`.

    See `continue_from`; of a `trunk.pt` the trunk alone is taken. Returns what was taken and what stays new, in a
    sentence, with a warning where the earlier network was trained on other input than `input_spec`. Raises BundleError,
    CheckpointError.
    """
    if path.is_dir():
        earlier = load_evaluable(path)
        taken = continue_from(network, spec, earlier.network, earlier.spec, path)
        return taken + _other_input(earlier.input, input_spec)
    if (trunk := load_trunk(path)) is not None:
        try:
            network.backbone.get_submodule("features").load_state_dict(trunk)
        except (AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit the trunk of a {spec.backbone}") from error
        return f"{path}: the trunk is taken; all above it is new"
    trained = load_trained(path)
    taken = continue_from(network, spec, trained.build(), trained.spec, path)
    return taken + _other_input(trained.input, input_spec)


def continue_from(
    network: AffectNetwork, spec: NetworkSpec, source: AffectNetwork, earlier: NetworkSpec, path: Path
) -> str:
    """Take over an earlier network's backbone, and its heads as far as the two networks have them in common.

    A DDAMFN may continue from a pooled one, and one with further features from one with fewer. A head is taken where
    both networks have the task with the same inner layer and neither has a recurrent encoder; outputs for expressions
    are taken by the names of their labels. All else stays as new. Returns what was taken, in a sentence that begins
    with `path`. Raises CheckpointError for a backbone that cannot continue from the earlier one.
    """
    old, new = source.backbone, network.backbone
    if isinstance(old, PooledMFN) and isinstance(new, DDAMFN):
        new.start_from(old)
    elif earlier.backbone == spec.backbone:
        new.load_state_dict(old.state_dict())
    elif isinstance(old, DDAMFN) and isinstance(new, type(old)):
        new.load_state_dict(old.state_dict(), strict=False)
    else:
        raise CheckpointError(f"{path}: {spec.backbone} cannot continue from a {earlier.backbone}")
    alike = spec.hidden == earlier.hidden and spec.recurrent is None and earlier.recurrent is None
    common = [task for task in spec.tasks if alike and task in earlier.tasks]
    for task in common:
        _take_head(network.heads[task], source.heads[task], _rows(task, spec, earlier))
    return f"{path}: the backbone is taken; {_described(common, spec, earlier)}"


def mean_weights(trained: Mapping[str, Tensor], first: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the mean of trained weights and first ones, of which `share` counts; whole numbers are the trained ones.

    Such a mean keeps more of what the first weights did well (Wortsman et al., Robust fine-tuning, CVPR 2022).
    """
    return {
        name: torch.lerp(value, first[name], share) if value.is_floating_point() else value
        for name, value in trained.items()
    }


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Leave the parameters whose name contains one of `names` as they are; ValueError where none is called so."""
    for part in names:
        chosen = [parameter for name, parameter in network.named_parameters() if part in name]
        if not chosen:
            raise ValueError(f"network.frozen: no parameter is called {part}")
        for parameter in chosen:
            parameter.requires_grad_(False)


def _rows(task: Task, spec: NetworkSpec, earlier: NetworkSpec) -> list[tuple[int, int]]:
    """Pairs of an output of the new head and the earlier one's that means the same."""
    if task != "expression":
        return [(i, i) for i in range(spec.widths[task])]
    return [(i, earlier.labels.index(label)) for i, label in enumerate(spec.labels) if label in earlier.labels]


@torch.no_grad()
def _take_head(head: nn.Module, earlier: nn.Module, rows: Sequence[tuple[int, int]]) -> None:
    """Copy a head's inner layer and some of its outputs.

    What the new vector has behind the old one means nothing to them yet: its weights are 0.
    """
    layers, sources = ([part for part in each.modules() if isinstance(part, nn.Linear)] for each in (head, earlier))
    pairs = list(zip(layers, sources, strict=True))
    for layer, source in pairs:
        every = [(i, i) for i in range(layer.out_features)]
        for new, old in rows if layer is layers[-1] else every:
            layer.weight[new].zero_()[: source.in_features] = source.weight[old]
            layer.bias[new] = source.bias[old]


def _described(common: Sequence[Task], spec: NetworkSpec, earlier: NetworkSpec) -> str:
    new = [f"a new head of {task}" for task in spec.tasks if task not in common]
    parts = [f"the head of {task} is taken" for task in common] + new
    labels = [label for label in spec.labels if label not in earlier.labels]
    if "expression" in common and labels:
        parts.append(f"new outputs for {', '.join(labels)}")
    return ", ".join(parts)


def _other_input(earlier: InputSpec, input_spec: InputSpec | None) -> str:
    """A warning where two networks want other pictures: weights mean little on pictures they were not trained on."""
    if input_spec is None:
        return ""
    differing = [
        f"{name} {before} (now {now})"
        for name, before in vars(earlier).items()
        if name not in ("size", "with_mirror_image", "oriented") and (now := getattr(input_spec, name)) != before
    ]
    return f"; warning: it was trained with {', '.join(differing)}" if differing else ""
