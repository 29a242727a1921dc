"""Face detection behind one protocol, so that a detector can be exchanged in one line.

The detector decides where landmarks land, hence how crops look: a bundle records the one its crops were prepared with.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from model_core.detection.contract import FaceDetector, largest
from model_core.detection.yuface import YuFaceDetector

__all__ = ["DETECTORS", "FaceDetector", "YuFaceDetector", "build_detector", "family", "largest"]

DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType({"yuface": YuFaceDetector})
"""Name, without version -> factory."""


def build_detector(name: str) -> FaceDetector:
    """Make a detector by its name; raises ValueError for an unknown one."""
    if name not in DETECTORS:
        raise ValueError(f"unknown face detector {name!r}; known: {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def family(name: str) -> str:
    """A detector's name without its version, `yuface-2023.5.1` -> `yuface`: within a family, crops look alike."""
    return name.partition("-")[0]
