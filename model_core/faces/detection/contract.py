"""The protocol of face detectors, and the parts that its implementations share."""

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point

T = TypeVar("T")


class FaceDetector(Protocol):
    """Finds the faces of one frame; safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, as recorded in bundles, such as `yuface-2023.5.1`."""
        ...

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """Return the faces of a frame, uint8 [H, W, 3] RGB, in its pixels, by decreasing box area.

        Only faces of at least `min_confidence`, in [0, 1], are returned, and only the `max_faces` largest of them; None
        sets no limit.
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


class PerThread(threading.local, Generic[T]):
    """A value that each thread makes for itself once, for networks that keep state during a call."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Take the factory of the value."""
        # threading.local calls this again, with the same arguments, in each further thread.
        self.value = make()


def detect_shrunk(
    frame: Frame,
    find: Callable[[Frame], Candidates],
    *,
    max_side_px: int,
    min_confidence: float,
    max_faces: int | None,
) -> list[Face]:
    """Return the faces that `find` detects in a frame whose longer side is shrunk to at most `max_side_px`.

    Faces are in the original frame's pixels, and otherwise as FaceDetector promises. Candidates without an area are
    dropped, and a frame without pixels has no faces.
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
        for box, points, confidence in zip(*find(image), strict=True)
        if confidence >= min_confidence and (box[2:] > 0).all()
    ]
    return largest(faces, max_faces)


def largest(faces: list[Face], max_faces: int | None) -> list[Face]:
    """Return the `max_faces` faces of largest box area, largest first; None returns all."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(box: NDArray[np.float64], points: NDArray[np.float64], confidence: float) -> Face:
    (x, y), (width, height) = box.tolist()
    landmarks = Landmarks(*(Point(px, py) for px, py in points.tolist()))
    return Face(Box(x, y, width, height), landmarks, confidence)
