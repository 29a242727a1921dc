"""The network of a bundle from its stored weights. This is the part of reading a bundle that needs torch."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.models.clip import ClipError
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec


def build_checked(spec: NetworkSpec) -> AffectNetwork:
    """Return an untrained network. Raises ValueError or ModuleNotFoundError if it cannot be built."""
    try:
        return build_network(spec)
    except ClipError as error:
        raise ValueError(str(error)) from error


def restore(network: AffectNetwork, weights: Mapping[str, NDArray[np.floating]]) -> AffectNetwork:
    """Put stored weights into a network in place, as float32, and return it in evaluation mode.

    Raises ValueError, which names the first deviations, for weights that do not fit.
    """
    state = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    problems = [f"missing {name}" for name in expected if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in expected]
    for name, array in weights.items():
        if name in expected and array.shape != expected[name]:
            problems.append(f"{name} is {array.shape}, expected {expected[name]}")
        if array.dtype not in (np.float16, np.float32) or not np.isfinite(array).all():
            problems.append(f"{name} is not finite float16 or float32")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
    in_use: dict[str, Tensor] = {name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items()}
    network.load_state_dict(state | in_use)
    return network.eval()
