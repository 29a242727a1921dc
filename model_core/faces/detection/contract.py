"""What every face detector promises, and the parts of the promise that they share."""

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point

T = TypeVar("T")


class FaceDetector(Protocol):
    """Finds faces in one frame. Implementations are safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, as recorded in bundles: `yuface-2023.5.1`."""
        ...

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """Faces of at least `min_confidence`, by decreasing box area, at most the `max_faces` largest."""
        ...


class Candidates(NamedTuple):
    """What a network says about one picture, in its pixels.

    boxes: float64 [N, 4], x, y, width, height. confidences: float64 [N] in [0, 1].
    landmarks: float64 [N, 5, 2] in the order of Landmarks; whole numbers are pixel centres.
    """

    boxes: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    confidences: NDArray[np.float64]


class PerThread(threading.local, Generic[T]):
    """`value`, made by `make` once in each thread that asks: for networks that keep state during a call."""

    def __init__(self, make: Callable[[], T]) -> None:
        # The class of thread-locals runs this again, with the same arguments, in each further thread.
        self.value = make()


def detect_shrunk(
    frame: Frame,
    find: Callable[[Frame], Candidates],
    *,
    max_side_px: int,
    min_confidence: float,
    max_faces: int | None,
) -> list[Face]:
    """Shrink the frame's longer side to `max_side_px` if it is above, `find` there, answer in the frame's pixels.

    Candidates without an area are dropped. A frame without pixels has no faces.
    """
    if frame.size == 0:
        return []
    height, width = frame.shape[:2]
    image, scale = frame, max_side_px / max(height, width)
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
    """The faces by decreasing box area, cut to the first `max_faces`."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(box: NDArray[np.float64], points: NDArray[np.float64], confidence: float) -> Face:
    (x, y), (width, height) = box.tolist()
    landmarks = Landmarks(*(Point(px, py) for px, py in points.tolist()))
    return Face(Box(x, y, width, height), landmarks, confidence)
