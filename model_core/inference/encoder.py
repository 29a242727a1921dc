"""A backbone shared by several bundles, with the heads evaluated on its features.

Bundles share an encoder if their backbone, its weights and the input are the same; it then runs once for each crop.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.bundles.bundle import Bundle, BundleError, Weights
from model_core.faces.geometry import Crop
from model_core.inference import openvino_runtime
from model_core.inference.backbone_graphs import backbone_model
from model_core.inference.heads import Heads
from model_core.inference.layout import EncoderLayout
from model_core.inference.openvino_runtime import Model
from model_core.inference.runtimes import Runtime, RuntimeOptions
from model_core.preprocessing import Images, InputSpec, own_weights, readings, to_batch, weighted_answers

Features: TypeAlias = NDArray[np.float64]
"""One face's features, float64 [F]: the columns of an EncoderLayout, or for all encoders those of a FeatureLayout."""


class Encoder:
    """The backbone of one or more bundles on a device, with the heads of the framewise ones.

    Calls must not overlap: one thread owns an encoder.
    """

    def __init__(self, bundles: Sequence[Bundle], device: str, options: RuntimeOptions) -> None:
        """Take bundles that share an encoder, such as a group of `grouped`, and a device by torch's name.

        Raises BundleError for weights that do not fit, ModuleNotFoundError if what the engine needs is not installed,
        and as `build_tensor_runtime` does.
        """
        self.input = bundles[0].manifest.input
        """The input of all bundles."""

        self.layout = EncoderLayout.of([bundle.manifest for bundle in bundles])
        """The columns of the features."""

        options.check(device)
        if options.engine == "torch":
            self._run = _torch_runtime(bundles, device, options)
        else:
            self._run = _openvino_runtime(bundles, self.layout, options)

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        """Return the features of crops, each uint8 [S, S, 3] RGB of the input's size and alignment, in their order.

        Raises ValueError for a crop of another shape; nothing is computed then.
        """
        if not crops:
            return []
        return list(answers_to(to_batch(crops, self.input), self.input, self._run))


def answers_to(images: Images, spec: InputSpec, run: Runtime) -> NDArray[np.float64]:
    """Return a runtime's outputs for images, float64 [B, D], averaged with those for mirror images as `spec` says."""
    weights = own_weights(images, spec)
    shown = readings(images, weights)
    # A lone face is seldom read twice, and another size of batch costs OpenVINO more than a second pass.
    size = 1 if spec.oriented and len(images) == 1 else len(shown)
    outputs = [run(shown[start : start + size]) for start in range(0, len(shown), size)]
    return weighted_answers(np.concatenate(outputs), weights)


def grouped(bundles: Sequence[Bundle]) -> list[list[int]]:
    """Return the positions of the bundles, grouped by the encoder that they share."""
    groups: list[list[int]] = []
    for position, bundle in enumerate(bundles):
        for group in groups:
            if _can_share(bundles[group[0]], bundle):
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


def _can_share(one: Bundle, other: Bundle) -> bool:
    """Return True if two bundles have the same input and backbone, weights included."""
    a, b = one.manifest, other.manifest
    if (a.input, a.network.backbone, a.network.tower) != (b.input, b.network.backbone, b.network.tower):
        return False
    weights = _backbone(one)
    others = _backbone(other)
    return weights.keys() == others.keys() and all(np.array_equal(weights[name], others[name]) for name in weights)


def _backbone(bundle: Bundle) -> Weights:
    return {name: array for name, array in bundle.weights.items() if name.startswith("backbone.")}


def _torch_runtime(bundles: Sequence[Bundle], device: str, options: RuntimeOptions) -> Runtime:
    """Return the runtime of bundles that share an encoder, by the engine torch."""
    try:
        import torch

        from model_core.inference.networks import shared_network
        from model_core.inference.torch_runtime import torch_runtime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the engine torch is not installed; install the extra `torch`", name=error.name
        ) from error
    return torch_runtime(shared_network(bundles), bundles[0].manifest.input.size, torch.device(device), options)


def _openvino_runtime(bundles: Sequence[Bundle], layout: EncoderLayout, options: RuntimeOptions) -> Runtime:
    """Return the runtime of bundles that share an encoder, by the engine OpenVINO, with the heads in NumPy."""
    heads: list[Heads] = []
    for position in layout.framewise:
        network = bundles[position].manifest.network
        with naming(bundles[position]):
            heads.append(Heads(bundles[position].weights, network.widths, network.vector_size))
    backbone = openvino_runtime.compiled(_backbone_model(bundles[0]), options)

    def run(images: Images) -> NDArray[np.float64]:
        vectors = backbone(images)
        single = vectors.astype(np.float32)
        parts = [head(single) for head in heads]
        return np.concatenate([*parts, vectors] if layout.has_vector else parts, axis=1)

    return run


def _backbone_model(bundle: Bundle) -> Model:
    """Return the OpenVINO model of a bundle's backbone: its graph with the bundle's weights, or torch's network."""
    with naming(bundle):
        model = backbone_model(bundle.manifest.network.backbone, bundle.weights)
    if model is not None:
        return model
    try:
        from model_core.models.folding import folded
    except ModuleNotFoundError as error:
        name = bundle.manifest.name
        raise ModuleNotFoundError(
            f"bundle {name}: OpenVINO has no graph of its backbone, and PyTorch, which makes one, is not installed; "
            "install the extra `torch`",
            name=error.name,
        ) from error
    return openvino_runtime.convert(folded(bundle.network).backbone, bundle.manifest.input.size)


@contextmanager
def naming(bundle: Bundle) -> Iterator[None]:
    """Raise BundleError with the bundle's name for weights that do not fit."""
    try:
        yield
    except ValueError as error:
        raise BundleError(f"bundle {bundle.manifest.name}: {error}") from error
