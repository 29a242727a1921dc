"""`python -m training.graphs`: makes the graphs of backbones by which OpenVINO serves without torch.

A graph is made anew when a backbone's forward pass has changed; `model_core.inference.backbone_graphs` reads it.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from model_core.inference.backbone_graphs import FOLDER, IMAGES, WEIGHTS, save_graph
from model_core.inference.openvino_runtime import Model, convert
from model_core.models.folding import folded
from model_core.models.registry import BACKBONES
from model_core.models.spec import BACKBONE_SHAPES


class WeightsAsInputs(nn.Module):
    """A network whose weights are arguments of its forward pass."""

    def __init__(self, network: nn.Module) -> None:
        """Take a network in evaluation mode; its weights are taken from it, so that it cannot be used any more."""
        super().__init__()
        self.weights: Mapping[str, Tensor] = _weights(network)
        """The weights by name, in the order of the arguments."""

        self._places = [self._emptied(network, name) for name in self.weights]
        self._network = [network]  # in a list, so that what is left in it does not become this module's state

    @staticmethod
    def _emptied(network: nn.Module, name: str) -> tuple[nn.Module, str]:
        """Take a weight out of its module; returns the module and the attribute's name."""
        path, _, attribute = name.rpartition(".")
        module = network.get_submodule(path)
        module._parameters.pop(attribute, None)
        module._buffers.pop(attribute, None)
        return module, attribute

    def forward(self, x: Tensor, *weights: Tensor) -> Tensor:
        """Return the network's output for images, float [B, 3, S, S], and its weights."""
        for (module, attribute), weight in zip(self._places, weights, strict=True):
            module.__dict__[attribute] = weight
        output: Tensor = self._network[0](x)
        return output


def graph_of(backbone: nn.Module, size: int) -> Model:
    """Return the graph of a backbone for images of `size` pixels; it names its inputs and the backbone's weights."""
    network = WeightsAsInputs(folded(backbone))
    model = convert(network, size, tuple(network.weights.values()))
    for name, parameter in zip([IMAGES, *(f"backbone.{name}" for name in network.weights)], model.inputs, strict=True):
        parameter.get_node().set_friendly_name(name)
    shapes = {f"backbone.{name}": list(tensor.shape) for name, tensor in _weights(backbone).items()}
    model.set_rt_info(json.dumps(shapes), WEIGHTS)
    return model


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network by name, as bundles have them."""
    state = network.state_dict().items()
    return {name: tensor.detach() for name, tensor in state if not name.endswith("num_batches_tracked")}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the graphs (default: the package's)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, shape in BACKBONE_SHAPES.items():
        if shape.input_size is None:
            continue  # it takes crops of any size, which a graph does not
        path = options.out / f"{name}.zip"
        with torch.no_grad():
            save_graph(graph_of(BACKBONES[name](), shape.input_size), path)
        print(path)


if __name__ == "__main__":
    main()
