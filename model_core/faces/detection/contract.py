"""The protocols of face detectors and of the networks inside them, and a scan of a frame at one scale."""

from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point


class DetectorUnavailable(ValueError):
    """A detector cannot be used on this machine as it is; the message says what is missing."""


class FaceDetector(Protocol):
    """Finds the faces of frames; safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, as recorded in bundles, such as `yuface-2023.5.1+refined-1`."""
        ...

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        """Return the faces of a frame, uint8 [H, W, 3] RGB, in its pixels, by decreasing box area.

        Only faces of at least `min_confidence`, in [0, 1], are returned, and only the `max_faces` largest of them; None
        sets no limit. A `thorough` search also finds faces that are small in a large frame, where it shows no large
        one.
        """
        ...

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        """Return the face of a frame that is about where `face` was in the frame before, or None.

        The answer is that of `detect` for the same face, but only the surroundings of the old one are searched.
        """
        ...


class Candidates(NamedTuple):
    """The N detections of a network in one image, in the image's pixels."""

    boxes: NDArray[np.float64]
    """float64 [N, 4]: x, y, width, height."""

    landmarks: NDArray[np.float64]
    """float64 [N, 5, 2]: (x, y), in the order of Landmarks; whole numbers are pixel centres."""

    confidences: NDArray[np.float64]
    """float64 [N], in [0, 1]."""


class FaceNetwork(Protocol):
    """A network that finds the faces of an image at one scale; safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, such as `yuface-2023.5.1`."""
        ...

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        """Return the detections in an image, uint8 [H, W, 3] RGB, and perhaps some below `min_confidence`."""
        ...


def scan(network: FaceNetwork, frame: Frame, *, max_side_px: int = 640, min_confidence: float = 0.6) -> list[Face]:
    """Return the faces that a network finds in a frame, uint8 [H, W, 3] RGB, by decreasing box area.

    A frame whose longer side exceeds `max_side_px` is shrunk to it first; faces are in the original frame's pixels.
    Candidates without an area are dropped, and a frame without pixels has no faces.
    """
    if frame.size == 0:
        return []
    height, width = frame.shape[:2]
    image = frame
    scale = max_side_px / max(height, width)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    factor = np.array([width / image.shape[1], height / image.shape[0]])
    faces = [
        _face(box.reshape(2, 2) * factor, (points + 0.5) * factor - 0.5, float(confidence))
        for box, points, confidence in zip(*network.find(image, min_confidence), strict=True)
        if confidence >= min_confidence and (box[2:] > 0).all()
    ]
    return largest(faces, None)


def largest(faces: list[Face], max_faces: int | None) -> list[Face]:
    """Return the `max_faces` faces of largest box area, largest first; None returns all."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(box: NDArray[np.float64], points: NDArray[np.float64], confidence: float) -> Face:
    (x, y), (width, height) = box.tolist()
    landmarks = Landmarks(*(Point(px, py) for px, py in points.tolist()))
    return Face(Box(x, y, width, height), landmarks, confidence)
