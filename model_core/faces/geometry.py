"""Positions of faces: frozen value types in pixels of the source frame, whose origin is its top left corner.

Left and right are the image's, not the person's: `left_eye` is the eye nearer to x = 0 in an upright frontal face.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Frame: TypeAlias = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB, upright."""

Crop: TypeAlias = NDArray[np.uint8]
"""uint8 [S, S, 3], RGB, one aligned face."""


class Point(NamedTuple):
    """A position in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle in pixels; it may extend beyond the frame."""

    x: float
    """Left edge."""

    y: float
    """Top edge."""

    width: float
    height: float

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def iou(self, other: "Box") -> float:
        """Intersection over union with another box, in [0, 1]."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / (self.area + other.area - width * height)


@dataclass(frozen=True)
class Landmarks:
    """The five facial points that all detectors give and alignment uses."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point

    def as_array(self) -> NDArray[np.float64]:
        """Return the points as float64 [5, 2], (x, y) in pixels, in the order of the fields."""
        # Not by astuple, which copies each point and takes longer than what is computed from them.
        points = (self.left_eye, self.right_eye, self.nose, self.left_mouth, self.right_mouth)
        return np.array(points, dtype=np.float64)


@dataclass(frozen=True)
class Face:
    """A detected face."""

    box: Box
    landmarks: Landmarks

    confidence: float
    """The detector's own score in [0, 1]."""

    settled: bool = True
    """False if looks at the face disagree about its landmarks, as for a face that could not be brought upright."""


@dataclass(frozen=True)
class TrackedFace:
    """A face with the id of its track."""

    track_id: int
    """The id that the face keeps over time: 1 or more, and never reused by a tracker."""

    face: Face
