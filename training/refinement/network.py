"""The network that places landmarks, as it is trained; the service reads its ONNX file with OpenCV."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from model_core.faces.refinement import INPUT_PX, OUTPUTS


class RefinementNetwork(nn.Module):
    """Six convolutions and two linear layers: 8 M multiply-adds, 0.3 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 16, stride=2),
            *_block(16, 32, stride=2),
            *_block(32, 32, stride=1),
            *_block(32, 64, stride=2),
            *_block(64, 64, stride=1),
            *_block(64, 96, stride=2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(96 * 4 * 4, 128), nn.ReLU(inplace=True), nn.Linear(128, OUTPUTS)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs, float [N, 15], for normalised inputs, float [N, 1, 64, 64]: landmarks, box, doubt."""
        outputs: Tensor = self.head(self.features(inputs))
        return outputs


def _block(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


def normalised_batch(inputs: Tensor) -> Tensor:
    """Return inputs, float32 [N, 1, S, S] in [0, 1], as `refinement.normalised` makes them."""
    mean = inputs.mean(dim=(2, 3), keepdim=True)
    spread = inputs.std(dim=(2, 3), keepdim=True, correction=0)
    return (inputs - mean) / (spread + 0.05)


def write_onnx(network: RefinementNetwork, path: Path) -> None:
    """Write the network with one input, float32 [1, 1, 64, 64], for OpenCV (extra `train`)."""
    example = torch.zeros(1, 1, INPUT_PX, INPUT_PX)
    partial = path.with_name(path.name + ".partial")
    torch.onnx.export(network.eval(), (example,), partial, dynamo=True, external_data=False, verbose=False)
    onnx.save(without_origins(onnx.load(partial)), partial)
    partial.replace(path)


def without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without its notes of where in the sources, and in which folder, each node was made."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
