"""The registry of networks: `build_network` makes an untrained AffectNetwork from the NetworkSpec of a bundle."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from model_core.models.clip import build_tower
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.face_regions import EyeRegion, FaceRegion, MouthRegion
from model_core.models.heads import AffectNetwork, ChangeLayers, PromptHead, task_head
from model_core.models.local import LocalDDAMFN, LocalEyesDDAMFN, LocalRegionsDDAMFN
from model_core.models.lstm import LSTMEncoder
from model_core.models.spec import NetworkSpec

BACKBONES: Mapping[str, type[DDAMFN] | type[PooledMFN] | type[FaceRegion]] = MappingProxyType(
    {
        "ddamfn": DDAMFN,
        "ddamfn-local": LocalDDAMFN,
        "ddamfn-local-eyes": LocalEyesDDAMFN,
        "ddamfn-local-regions": LocalRegionsDDAMFN,
        "eye-region": EyeRegion,
        "mfn-pooled": PooledMFN,
        "mouth-region": MouthRegion,
    }
)
"""Backbone classes by name. Their forward pass maps images, float [B, 3, S, S], to vectors [B, vector_size], where S is
`input_size`, or any size if that is None; `spec.BACKBONE_SHAPES` has the same sizes."""


def build_network(spec: NetworkSpec, backbone: nn.Module | None = None) -> AffectNetwork:
    """Return an untrained network with random weights, in training mode, around a given backbone or a new one.

    Raises as `build_tower` does if it needs a CLIP tower.
    """
    if backbone is None:
        backbone = build_tower(spec.tower) if spec.tower else BACKBONES[spec.backbone]()
    recurrent = None if spec.recurrent is None else LSTMEncoder(spec.vector_size, spec.recurrent)
    width = spec.recurrent or spec.vector_size
    if spec.tower:
        heads: dict[str, nn.Module] = {"expression": PromptHead(width, len(spec.labels), spec.vector_size)}
    else:
        heads = {task: task_head(width, spec.widths[task], spec.hidden) for task in spec.tasks}
    estimator = None if spec.estimator is None else ChangeLayers(spec.estimator)
    return AffectNetwork(backbone, heads, recurrent, estimator)
