"""Frozen encoders for video data: a bundle's backbone or CLIP's image tower, with the preprocessing that they want."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.faces.geometry import Crop
from model_core.models.clip import ClipEncoder, ClipSource, class_prompts, load_clip
from model_core.models.folding import folded
from model_core.models.spec import CLIP, NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.batches import image_batch
from training.data.mirror_images import vectors_of
from training.video.config import ClipConfig, EncoderConfig, HeadConfig


class FrozenEncoder:
    """A backbone that is not trained; it is an `Encoder` of the feature cache.

    key: hexadecimal digest of weights and preprocessing. detector: what crops like its own are made with. text: the
    features [C, D] of the prompts, for CLIP.
    """

    def __init__(
        self, backbone: nn.Module, spec: NetworkSpec, input_spec: InputSpec, detector: str, text: Tensor | None = None
    ) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        self.spec = spec
        self.input = input_spec
        self.detector = detector
        self.text = text
        self.key = encoder_digest(backbone, input_spec)
        self._serving = folded(backbone).to(memory_format=torch.channels_last)
        self._device = torch.device("cpu")

    @property
    def vector_size(self) -> int:
        """Width of its vectors."""
        return self.spec.vector_size

    @property
    def size(self) -> int:
        """Side of its crops in pixels."""
        return self.input.size

    def to(self, device: torch.device) -> "FrozenEncoder":
        """Run on a device from now on."""
        self._device, self._serving = device, self._serving.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> NDArray[np.float32]:
        """B crops, each uint8 [size, size, 3] RGB -> float32 [B, vector_size]."""
        vectors = vectors_of(self._serving, image_batch(crops, self.input).to(self._device), self.input)
        return np.asarray(vectors.float().cpu().numpy())


def encoder_digest(backbone: nn.Module, input_spec: InputSpec) -> str:
    """Return a hexadecimal digest of all that decides a vector: crops and their scaling, the weights, CLIP's tower."""
    digest = hashlib.sha256(json.dumps(asdict(input_spec), sort_keys=True).encode())
    if isinstance(backbone, ClipEncoder):  # the same weights give other vectors with QuickGELU, and normalized
        digest.update(json.dumps(asdict(backbone.spec), sort_keys=True).encode())
    for name, tensor in backbone.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # training's business
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def build_encoder(config: EncoderConfig, head: HeadConfig, labels: tuple[str, ...]) -> FrozenEncoder:
    """Load the encoder, and the spec of the whole network that a head makes of it.

    Raises BundleError, ClipError, ModuleNotFoundError without the extra `clip`, and ValueError for a head it cannot
    have.
    """
    labels = labels if head.task == "expression" else ()
    if config.clip is not None:
        return _clip(config.clip, head, labels)
    bundle = load_bundle(locate_bundle(str(config.bundle)))
    manifest = bundle.manifest
    spec = NetworkSpec(manifest.network.backbone, (head.task,), labels, head.hidden, head.recurrent)
    if manifest.network.tower is not None:
        raise ValueError(f"{config.bundle} is CLIP's: configure encoder.clip")
    return FrozenEncoder(bundle.network.backbone, spec, manifest.input, manifest.detector)


def _clip(config: ClipConfig, head: HeadConfig, labels: tuple[str, ...]) -> FrozenEncoder:
    source = ClipSource(config.model, config.weights, config.quick_gelu, config.normalized)
    if not labels:
        raise ValueError("CLIP tells expressions only")
    loaded = load_clip(source, class_prompts(labels), download=config.download)
    encoder = loaded.encoder
    spec = NetworkSpec(CLIP, (head.task,), labels, head.hidden, head.recurrent, encoder.spec)
    return FrozenEncoder(encoder, spec, encoder.input(config.alignment), config.detector, loaded.text)
