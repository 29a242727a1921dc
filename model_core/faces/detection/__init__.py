"""The registry of face detectors, which share one protocol.

The detector decides where landmarks lie, and so what crops look like. A bundle records the detector that its crops were
prepared with.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from model_core.faces.detection.contract import FaceDetector, FaceNetwork, largest, scan
from model_core.faces.detection.mtcnn import MtcnnNetwork
from model_core.faces.detection.refined import RefinedDetector
from model_core.faces.detection.yuface import YuFaceNetwork
from model_core.faces.detection.yunet import YuNetNetwork
from model_core.faces.refinement import LandmarkRefiner

__all__ = [
    "NETWORKS",
    "NETWORKS_BY_FILE",
    "FaceDetector",
    "FaceNetwork",
    "MtcnnNetwork",
    "RefinedDetector",
    "YuFaceNetwork",
    "YuNetNetwork",
    "build_detector",
    "build_network",
    "family",
    "largest",
    "scan",
]

NETWORKS: Mapping[str, Callable[[], FaceNetwork]] = MappingProxyType({"yuface": YuFaceNetwork, "mtcnn": MtcnnNetwork})
"""Factories of the networks that bring their weights, by name without version."""

NETWORKS_BY_FILE: Mapping[str, Callable[[Path], FaceNetwork]] = MappingProxyType({"yunet": YuNetNetwork})
"""Factories of the networks whose weights are a file, by name without version; they are requested as `name:PATH`."""


def build_detector(name: str) -> FaceDetector:
    """Return a new detector by its name: `yuface`, `mtcnn` or `yunet:PATH`. Raises what build_network raises."""
    return RefinedDetector(build_network(name), LandmarkRefiner())


def build_network(name: str) -> FaceNetwork:
    """Return a new network by its name: `yuface`, `mtcnn` or `yunet:PATH`.

    Raises ValueError for an unknown name and for a file that the network cannot use, and ModuleNotFoundError if its
    package is not installed.
    """
    if name in NETWORKS:
        return NETWORKS[name]()
    kind, _, path = name.partition(":")
    if kind in NETWORKS_BY_FILE and path:
        return NETWORKS_BY_FILE[kind](Path(path))
    known = [*NETWORKS, *(f"{kind}:PATH" for kind in NETWORKS_BY_FILE)]
    raise ValueError(f"unknown face detector {name!r}; known: {', '.join(known)}")


def family(name: str) -> str:
    """Return a detector's name without its version, such as `yuface` for `yuface-2023.5.1+refined-1`.

    Crops of detectors of one family look alike.
    """
    return name.partition("-")[0]
