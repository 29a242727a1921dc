"""Files as upstream's code would have written them: modules of a package that exists only while they are pickled."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from tests.fakes import formula_state

PACKAGE = "networks_of_upstream"


class Part(nn.Module):
    """Any module of upstream's."""


@contextmanager
def upstream_package() -> Iterator[type[Part]]:
    """Upstream's package, with its one class, for as long as something is pickled."""
    package, part = ModuleType(PACKAGE), type("Part", (Part,), {"__module__": PACKAGE})
    package.__file__ = __file__  # torch's older format quotes the source
    package.Part = part  # type: ignore[attr-defined]
    sys.modules[PACKAGE] = package
    try:
        yield part
    finally:
        del sys.modules[PACKAGE]


def nest(part: type[Part], state: dict[str, Tensor]) -> Part:
    """A tree of Parts whose `state_dict` is `state`."""
    root = part()
    for name, value in state.items():
        *path, leaf = name.split(".")
        here: nn.Module = root
        for step in path:
            if step not in here._modules:
                here.add_module(step, part())
            here = here.get_submodule(step)
        if value.is_floating_point() and "running" not in leaf:
            here.register_parameter(leaf, nn.Parameter(value))
        else:
            here.register_buffer(leaf, value)
    return root


def mfn_state() -> dict[str, Tensor]:
    """The trunk of the published entries in nine parts, and a little of the embedding above it."""
    state = {}
    for name, value in formula_state().items():
        if name.startswith("features."):
            _, i, rest = name.split(".", 2)
            state[f"part{i}.{rest}"] = value if value.ndim == 0 else value.float()
    top = {
        "conv_6_dw.conv.weight": torch.ones(2, 1, 7, 7),
        "linear.weight": torch.ones(2, 2),
        "bn.weight": torch.ones(2),
    }
    return state | top
