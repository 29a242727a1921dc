"""The registry of face detectors, which share one protocol.

The detector decides where landmarks lie, and so what crops look like. A bundle records the detector that its crops were
prepared with.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from model_core.faces.detection.contract import FaceDetector, largest
from model_core.faces.detection.mtcnn import MtcnnDetector
from model_core.faces.detection.yuface import YuFaceDetector
from model_core.faces.detection.yunet import YuNetDetector

__all__ = [
    "DETECTORS",
    "DETECTORS_BY_FILE",
    "FaceDetector",
    "MtcnnDetector",
    "YuFaceDetector",
    "YuNetDetector",
    "build_detector",
    "family",
    "largest",
]

DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"yuface": YuFaceDetector, "mtcnn": MtcnnDetector}
)
"""Factories of the detectors that bring their weights, by name without version."""

DETECTORS_BY_FILE: Mapping[str, Callable[[Path], FaceDetector]] = MappingProxyType({"yunet": YuNetDetector})
"""Factories of the detectors whose weights are a file, by name without version; they are requested as `name:PATH`."""


def build_detector(name: str) -> FaceDetector:
    """Return a new detector by its name: `yuface`, `mtcnn` or `yunet:PATH`.

    Raises ValueError for an unknown name and for a file that the detector cannot use, and ModuleNotFoundError if its
    package is not installed.
    """
    if name in DETECTORS:
        return DETECTORS[name]()
    kind, _, path = name.partition(":")
    if kind in DETECTORS_BY_FILE and path:
        return DETECTORS_BY_FILE[kind](Path(path))
    known = [*DETECTORS, *(f"{kind}:PATH" for kind in DETECTORS_BY_FILE)]
    raise ValueError(f"unknown face detector {name!r}; known: {', '.join(known)}")


def family(name: str) -> str:
    """Return a detector's name without its version, such as `yuface` for `yuface-2023.5.1`.

    Crops of detectors of one family look alike.
    """
    return name.partition("-")[0]
