"""Detection in the consecutive frames of one video, without a search of every whole frame."""

import cv2
import numpy as np

from model_core.faces.detection import FaceDetector, largest
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point

SCAN_EVERY_S = 0.5
"""Time in seconds between scans of the whole frame; a new face may be found this much later."""

REGION_PX = 192
"""Longer side in pixels of the enlarged region in which a face is searched; the face fills about half of it."""

SCAN_PX = 640 * 360
"""Largest number of pixels that a scan covers: detectors shrink a wide frame to about this."""

_REGION_SCALE = 2.0
"""Side of a region, as a multiple of the longer side of the face's box."""

_SAME_FACE_IOU = 0.3
"""Overlap from which two boxes are taken for the same face."""


class FollowingDetector:
    """Scans whole frames at intervals, and in between searches for each face around its last position only.

    If a face is not found there, or if two faces become one, the whole frame is scanned at once. It is also scanned if
    there are so many faces that following them would cost more. Regions are enlarged, so a followed face's landmarks
    are finer than those from a scan of a large frame. One object serves one video.
    """

    def __init__(self, detector: FaceDetector, scan_every_s: float = SCAN_EVERY_S) -> None:
        """Take a detector, and the time in seconds between scans."""
        self._detector = detector
        self._scan_every_s = scan_every_s
        self._scanned_s = float("-inf")
        self._faces: list[Face] = []

    def detect(self, frame: Frame, time_s: float, *, min_confidence: float = 0.6, max_faces: int = 16) -> list[Face]:
        """Return the faces of a frame, uint8 [H, W, 3] RGB, at a time in seconds that must not decrease.

        The options and the order of the faces are those of FaceDetector.
        """
        due = time_s - self._scanned_s > self._scan_every_s - 1e-6
        faces = None if due or self._crowded(frame) else self._follow(frame, min_confidence)
        if faces is None:
            faces = self._detector.detect(frame, min_confidence=min_confidence, max_faces=max_faces)
            self._scanned_s = time_s
        self._faces = faces
        return faces

    def reset(self) -> None:
        """Forget all positions, as at a scene cut; the next frame is scanned."""
        self._scanned_s = float("-inf")
        self._faces = []

    def _crowded(self, frame: Frame) -> bool:
        """Return True if the regions of all faces have more pixels than a scan, so that following costs more."""
        height, width = frame.shape[:2]
        scanned: int = min(height * width, SCAN_PX)
        return len(self._faces) * REGION_PX**2 > scanned

    def _follow(self, frame: Frame, min_confidence: float) -> list[Face] | None:
        """Return the same faces in the next frame, or None if one of them is not found and a scan is needed."""
        followed: list[Face] = []
        for face in self._faces:
            candidates = self._around(frame, face.box, min_confidence)
            best = max(candidates, key=lambda found: found.box.iou(face.box), default=None)
            if best is None or best.box.iou(face.box) < _SAME_FACE_IOU:
                return None
            if any(best.box.iou(other.box) > _SAME_FACE_IOU for other in followed):
                return None
            followed.append(best)
        return largest(followed, None)

    def _around(self, frame: Frame, box: Box, min_confidence: float) -> list[Face]:
        """Return the faces found in the enlarged region around a box, in pixels of the frame."""
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
        found = self._detector.detect(picture, min_confidence=min_confidence)
        return [_placed(face, factor, (left, top)) for face in found]


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
