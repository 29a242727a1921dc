"""Face detection behind one protocol, so that a detector can be exchanged in one line.

The detector decides where landmarks land, hence how crops look: a bundle records the one its crops were prepared with.
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
"""Name, without version -> factory."""

DETECTORS_BY_FILE: Mapping[str, Callable[[Path], FaceDetector]] = MappingProxyType({"yunet": YuNetDetector})
"""Name, without version -> factory of those whose weights are a file; they are asked for as `name:PATH`."""


def build_detector(name: str) -> FaceDetector:
    """Make a detector by its name, `yuface`, `mtcnn` or `yunet:PATH`.

    Raises ValueError for an unknown name and for a file that is not what the detector needs, ModuleNotFoundError where
    its package is not installed.
    """
    if name in DETECTORS:
        return DETECTORS[name]()
    kind, _, path = name.partition(":")
    if kind in DETECTORS_BY_FILE and path:
        return DETECTORS_BY_FILE[kind](Path(path))
    known = [*DETECTORS, *(f"{kind}:PATH" for kind in DETECTORS_BY_FILE)]
    raise ValueError(f"unknown face detector {name!r}; known: {', '.join(known)}")


def family(name: str) -> str:
    """A detector's name without its version, `yuface-2023.5.1` -> `yuface`: within a family, crops look alike."""
    return name.partition("-")[0]
