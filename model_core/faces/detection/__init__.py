"""The registry of face detectors, which share one protocol.

The detector decides where landmarks lie, and so what crops look like. A bundle records the detector that its crops were
prepared with.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from model_core.faces.detection.contract import DetectorUnavailable, FaceDetector, FaceNetwork, largest, scan
from model_core.faces.detection.mtcnn import MtcnnNetwork
from model_core.faces.detection.refined import RefinedDetector
from model_core.faces.detection.yuface import YuFaceNetwork
from model_core.faces.detection.yunet import YuNetNetwork
from model_core.faces.detection.yunet_file import cached_yunet
from model_core.faces.refinement import LandmarkRefiner

__all__ = [
    "NETWORKS",
    "NETWORKS_BY_FILE",
    "DetectorUnavailable",
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

PREFERRED = ("yuface", "yunet", "mtcnn")
"""The order in which `auto` looks: first what the included weights were prepared with, then its nearest kin."""


def build_detector(name: str, *, download: bool = False) -> FaceDetector:
    """Return a new detector by its name, such as `auto`; see build_network, whose errors it raises."""
    return RefinedDetector(build_network(name, download=download), LandmarkRefiner())


def build_network(name: str, *, download: bool = False) -> FaceNetwork:
    """Return a new network by its name.

    Raises ValueError for an unknown name and for a file that the network cannot use, ModuleNotFoundError if its package
    is not installed, and DetectorUnavailable where a file, or for `auto` every network, is missing.

    Args:
        name: `yuface`, `mtcnn`, `yunet` (its file is in the Hugging Face cache), `yunet:PATH`, or `auto`: the first of
            PREFERRED that is there.
        download: whether YuNet's file may be fetched where it is needed and missing.
    """
    if name == "auto":
        return _first_there(download)
    if name in NETWORKS:
        return NETWORKS[name]()
    if name == "yunet":
        return YuNetNetwork(cached_yunet(download=download))
    kind, _, path = name.partition(":")
    if kind in NETWORKS_BY_FILE and path:
        return NETWORKS_BY_FILE[kind](Path(path))
    known = ["auto", *NETWORKS, "yunet", *(f"{kind}:PATH" for kind in NETWORKS_BY_FILE)]
    raise ValueError(f"unknown face detector {name!r}; known: {', '.join(known)}")


def _first_there(download: bool) -> FaceNetwork:
    missing = []
    for name in PREFERRED:
        try:
            return build_network(name)
        except (DetectorUnavailable, ModuleNotFoundError) as error:
            missing.append(str(error))
    if download:
        return build_network("yunet", download=True)
    raise DetectorUnavailable(f"there is no face detector: {'; '.join(missing)}")


def family(name: str) -> str:
    """Return a detector's name without its version, such as `yuface` for `yuface-2023.5.1+refined-1`.

    Crops of detectors of one family look alike.
    """
    return name.partition("-")[0]
