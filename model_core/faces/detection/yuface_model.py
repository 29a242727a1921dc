"""libfacedetection's network as a model of OpenVINO, which computes it two to five times as fast as the library itself.

The layers are those of YuNet (Wu et al., MIR 2023), and their weights are read from the library. What is found equals
what the library finds, its whole numbers included, since the included bundles were trained on such crops.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.compiled_models import CompiledModels, Model
from model_core.faces.geometry import Frame
from model_core.openvino_package import import_openvino

Weights: TypeAlias = Callable[[str, int], NDArray[np.float32]]
"""Returns the library's array of a name, which has the given number of values: float32 [N]."""

Node: TypeAlias = Any
"""An output of a layer, which has no types."""

STRIDES = (8, 16, 32)
"""Side of a cell of each grid, in pixels."""

LEAST_CONFIDENCE = 0.2
"""The library's threshold of a face."""

_OVERLAP = 0.45
"""Overlap (intersection over union) from which the library drops the less confident of two faces."""

_MOST_CANDIDATES = 1000
_MOST_FACES = 512
"""The library's limits before and after the less confident faces are dropped."""

_LARGEST_EXPONENT = 12.0
"""Limit of the outputs for a box's size; no image that is searched has sides of a tenth of it."""

_LARGE_PX = 640 * 640
"""Number of pixels from which the memory of a search is given back at once."""


def build_model(weights: Weights) -> Model:
    """Return the model with the library's weights. Raises ModuleNotFoundError if OpenVINO is not installed.

    It maps an image, uint8 [1, H, W, 3] RGB whose sides are multiples of 32, to a row of outputs for each cell of three
    grids, float32 [N, 16]: the two logits of a face, then four for its box and ten for its points.
    """
    openvino = import_openvino()
    from openvino import opset13

    layers = _Layers(opset13, weights)
    image = opset13.parameter(openvino.PartialShape([1, -1, -1, 3]), np.uint8)
    x = layers.pool(layers.depthwise_block(layers.stem(image), "backbone__model0_dp", 16, 16))
    x = layers.unit(layers.unit(x, "backbone__model1", 16, 32), "backbone__model2", 32, 64)
    maps = []
    for stage in (3, 4, 5):
        x = layers.unit(layers.pool(x), f"backbone__model{stage}", 64, 64)
        maps.append(x)
    # From the coarsest map to the finest, each is added to the next.
    grids: list[Node] = []
    for level in (2, 1, 0):
        below = layers.sum(layers.doubled(grids[0]), maps[level]) if grids else maps[level]
        grids.insert(0, layers.depthwise_block(below, f"neck__lateral_convs__{level}", 64, 64))
    rows = [layers.outputs(grid, level) for level, grid in enumerate(grids)]
    return openvino.Model([opset13.concat(rows, 0)], [image], "libfacedetection")


class _Layers:
    """The layers of the network, each with the library's weights of its name."""

    def __init__(self, operations: Any, weights: Weights) -> None:
        self._operations = operations
        self._weights = weights

    def stem(self, image: Node) -> Node:
        """Return the first map [1, 16, H / 2, W / 2] of an image, uint8 [1, H, W, 3] RGB."""
        # 27 weights for each output, by row, column and colour, and five zeros; the library's colours are BGR.
        kernel = self._weights("backbone__model0_pw_weight", 16 * 32).reshape(16, 32)[:, :27].reshape(16, 3, 3, 3)
        pixels = self._operations.transpose(
            self._operations.convert(image, "f32"), self._operations.constant([0, 3, 1, 2])
        )
        convolved = self._operations.convolution(
            pixels, self._constant(kernel[..., ::-1].transpose(0, 3, 1, 2)), [2, 2], [1, 1], [1, 1], [1, 1]
        )
        return self._operations.relu(self.sum(convolved, self._bias("backbone__model0_pw_bias", 16)))

    def unit(self, x: Node, name: str, channels_in: int, channels_out: int) -> Node:
        """Return two blocks, of which the second changes the number of channels."""
        first = self.depthwise_block(x, f"{name}_dp1", channels_in, channels_in)
        return self.depthwise_block(first, f"{name}_dp2", channels_in, channels_out)

    def depthwise_block(self, x: Node, name: str, channels_in: int, channels_out: int, *, relu: bool = True) -> Node:
        """Return a 1x1 convolution, a depthwise one of 3x3, and a ReLU."""
        across = self._weights(f"{name}_pw_weight", channels_out * channels_in).reshape(channels_out, channels_in, 1, 1)
        mixed = self._operations.convolution(x, self._constant(across), [1, 1], [0, 0], [0, 0], [1, 1])
        mixed = self.sum(mixed, self._bias(f"{name}_pw_bias", channels_out))
        around = self._weights(f"{name}_dw_weight", 9 * channels_out).reshape(9, channels_out).T
        convolved = self._operations.group_convolution(
            mixed, self._constant(around.reshape(channels_out, 1, 1, 3, 3)), [1, 1], [1, 1], [1, 1], [1, 1]
        )
        result = self.sum(convolved, self._bias(f"{name}_dw_bias", channels_out))
        return self._operations.relu(result) if relu else result

    def outputs(self, grid: Node, level: int) -> Node:
        """Return a row for each cell of a grid, [N, 16]."""
        parts = [
            self.depthwise_block(grid, f"bbox_head__multi_level_{part}__{level}", 64, width, relu=False)
            for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        ]
        by_cell = self._operations.transpose(self._operations.concat(parts, 1), self._operations.constant([0, 2, 3, 1]))
        return self._operations.reshape(by_cell, self._operations.constant([-1, 16]), False)

    def pool(self, x: Node) -> Node:
        """Return the largest of each two by two values."""
        return self._operations.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    def doubled(self, x: Node) -> Node:
        """Return a map of twice the sides, in which each value is repeated."""
        return self._operations.interpolate(
            x,
            self._constant(np.array([2, 2])),
            "nearest",
            "scales",
            axes=self._operations.constant([2, 3]),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def sum(self, one: Node, other: Node) -> Node:
        """Return the sum of two maps."""
        return self._operations.add(one, other)

    def _bias(self, name: str, channels: int) -> Node:
        return self._constant(self._weights(name, channels).reshape(1, channels, 1, 1))

    def _constant(self, values: NDArray[Any]) -> Node:
        return self._operations.constant(np.ascontiguousarray(values, dtype=np.float32))


class YuFaceModel:
    """The network with the library's weights; safe to call from several threads at once."""

    def __init__(self, weights: Weights) -> None:
        """Raise ModuleNotFoundError if OpenVINO is not installed."""
        self._models = CompiledModels(build_model(weights))

    def find(self, image: Frame, min_confidence: float) -> NDArray[np.float64]:
        """Return a row for each face of an image, uint8 [H, W, 3] RGB, by falling confidence: float64 [N, 15].

        It has the confidence in per cent, then x, y, width, height, and x and y of five points, all in whole numbers.
        """
        height, width = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in image.shape[:2])
        padded = np.zeros((1, height, width, 3), np.uint8)
        padded[0, : image.shape[0], : image.shape[1]] = image
        outputs = self._models.run(padded, release_memory=height * width > _LARGE_PX)
        return faces(outputs, (height, width), max(min_confidence, LEAST_CONFIDENCE))


def faces(outputs: NDArray[np.float32], size: Sequence[int], min_confidence: float) -> NDArray[np.float64]:
    """Return the rows that YuFaceModel.find describes for the outputs, float32 [N, 16], of an image.

    `size` is the image's height and width, which are multiples of 32.
    """
    logits = np.clip(outputs[:, :2], -80, 80)
    confidences = np.sqrt((1 / (1 + np.exp(-logits))).prod(axis=1))
    chosen = np.flatnonzero(confidences >= min_confidence)
    confidences = confidences[chosen]
    outputs = outputs[chosen]
    all_corners, all_sides = _cells(size)
    corners = all_corners[chosen]
    cell = all_sides[chosen, None]
    middles = outputs[:, 2:4] * cell + corners
    sides = np.exp(np.minimum(outputs[:, 4:6], _LARGEST_EXPONENT)) * cell
    boxes = np.column_stack([middles - sides / 2, sides])
    points = outputs[:, 6:].reshape(-1, 5, 2) * cell[:, None] + corners[:, None]
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), confidences.tolist(), 0.0, _OVERLAP, top_k=_MOST_CANDIDATES)
    rows = np.column_stack([confidences * 100, boxes, points.reshape(-1, 10)])
    found: NDArray[np.float64] = rows[np.asarray(kept, int)[:_MOST_FACES]].astype(np.float64)
    return np.trunc(found)


def _cells(size: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the upper left corner of each cell, float32 [N, 2] as (x, y), and its side, float32 [N]."""
    corners = []
    sides = []
    for stride in STRIDES:
        rows, columns = np.mgrid[0 : size[0] : stride, 0 : size[1] : stride]
        corners.append(np.column_stack([columns.ravel(), rows.ravel()]))
        sides.append(np.full(rows.size, stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sides).astype(np.float32)
