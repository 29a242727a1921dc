"""The face detector of service and training: a network that finds faces, and one that places their landmarks."""

from collections.abc import Sequence

import cv2
import numpy as np

from model_core.faces.detection.contract import FaceNetwork, largest, scan
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point
from model_core.faces.refinement import VERSION, LandmarkRefiner, has_collapsed

SCAN_PX = 640
"""Longer side in pixels to which a frame is shrunk for a scan; faces are found there from about 20 pixels on."""

THOROUGH_PX = 2000
"""Longer side of the second scan of a thorough search: it finds faces of one per cent of the frame."""

_LARGE_FACE = 0.04
"""Share of the longer side from which a face is large, so that the frame is not searched for smaller ones."""

REGION_PX = 96
"""Longer side in pixels of the region in which a face is followed; the face fills about half of it."""

_SPARE_FACES = 4
"""Faces that are refined beside twice as many as are asked for."""

_REGION_SCALE = 2.0
"""Side of a region, as a multiple of the longer side of the face's box."""

_SAME_FACE_IOU = 0.3
"""Overlap from which two boxes are taken for the same face."""

_STILL_IOU = 0.7
"""Overlap from which a followed face is taken to be about where it was."""


class RefinedDetector:
    """A FaceDetector: found faces get their landmarks and boxes from a LandmarkRefiner.

    So the same face has the same landmarks in a picture, in a scan of a video's frame and where it was followed.
    """

    def __init__(self, network: FaceNetwork, refiner: LandmarkRefiner) -> None:
        self._network = network
        self._refiner = refiner

    @property
    def name(self) -> str:
        """The network's name and version, and the version of the refined geometry."""
        return f"{self._network.name}+refined-{VERSION}"

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        """See FaceDetector."""
        found = scan(self._network, frame, max_side_px=SCAN_PX, min_confidence=min_confidence)
        longer_side = max(frame.shape[:2])
        shows_large = any(max(face.box.width, face.box.height) >= _LARGE_FACE * longer_side for face in found)
        if thorough and longer_side > SCAN_PX and not shows_large:
            closer = scan(self._network, frame, max_side_px=THOROUGH_PX, min_confidence=min_confidence)
            found = _distinct([*closer, *found])
        # Refining changes the boxes, so that another face may be larger then.
        most = None if max_faces is None else 2 * max_faces + _SPARE_FACES
        pairs = [(face, self._refiner.refine(frame, face)) for face in largest(found, most)]
        faces = [placed for face, placed in pairs if not has_collapsed(placed.box, face.box)]
        return largest(_distinct(faces), max_faces)

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        """See FaceDetector."""
        box = face.box
        found = self._around(frame, box, min_confidence)
        best = max(found, key=lambda each: each.box.iou(box), default=None)
        if best is None or not is_same_face(best.box, box):
            return None
        # Where it has hardly moved, its old landmarks are a better start.
        placed = self._refiner.refine(frame, best, face if best.box.iou(box) > _STILL_IOU else None)
        return None if has_collapsed(placed.box, best.box) else placed

    def _around(self, frame: Frame, box: Box, min_confidence: float) -> list[Face]:
        """Return the faces that the network finds in the region around a box, in pixels of the frame."""
        height, width = frame.shape[:2]
        half = _REGION_SCALE * max(box.width, box.height) / 2
        x, y = box.x + box.width / 2, box.y + box.height / 2
        left, right = max(0, round(x - half)), min(width, round(x + half))
        top, bottom = max(0, round(y - half)), min(height, round(y + half))
        if right <= left or bottom <= top:
            return []
        region = frame[top:bottom, left:right]
        scale = REGION_PX / max(region.shape[:2])
        size = (max(1, round(region.shape[1] * scale)), max(1, round(region.shape[0] * scale)))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(region, size, interpolation=interpolation), dtype=np.uint8)
        factor = (region.shape[1] / size[0], region.shape[0] / size[1])
        found = scan(self._network, picture, max_side_px=REGION_PX, min_confidence=min_confidence)
        return [_placed(face, factor, (left, top)) for face in found]


def is_same_face(box: Box, other: Box) -> bool:
    """Return True if two boxes in one frame overlap so much that they are taken for the same face."""
    return box.iou(other) >= _SAME_FACE_IOU


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Return the faces without those that are the same as a more confident one."""
    distinct: list[Face] = []
    for face in sorted(faces, key=lambda each: each.confidence, reverse=True):
        if not any(is_same_face(face.box, other.box) for other in distinct):
            distinct.append(face)
    return distinct


def _placed(face: Face, factor: tuple[float, float], origin: tuple[int, int]) -> Face:
    """Return a face of an enlarged region in pixels of the frame; whole numbers are pixel centres."""
    fx, fy = factor
    left, top = origin
    box = face.box
    points = face.landmarks.as_array()
    x = (points[:, 0] + 0.5) * fx - 0.5 + left
    y = (points[:, 1] + 0.5) * fy - 0.5 + top
    landmarks = Landmarks(*(Point(float(px), float(py)) for px, py in zip(x, y, strict=True)))
    return Face(Box(box.x * fx + left, box.y * fy + top, box.width * fx, box.height * fy), landmarks, face.confidence)
