"""Faces in the consecutive frames of one video, without searching every frame whole."""

import cv2
import numpy as np

from model_core.faces.detection import FaceDetector, largest
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point

SCAN_EVERY_S = 0.5
"""How long after a scan of a whole frame the next one is due: a new face may be found so much later."""

REGION_PX = 192
"""Side of the picture that a face is looked for in; the face fills about half of it."""

SCAN_PX = 640 * 360
"""Pixels of a scan at most: detectors shrink a wide frame to about that."""

_REGION_SCALE = 2.0
_SAME_FACE_IOU = 0.3


class FollowingDetector:
    """Scans a frame now and then, and in between looks for each face around its last place only.

    Where a face is not found there, or two become one, the whole frame is scanned at once, and so is a frame with so
    many faces that a scan costs less. A followed face is enlarged, so its landmarks are finer than those of a scan of a
    large frame. One object serves one video.
    """

    def __init__(self, detector: FaceDetector, scan_every_s: float = SCAN_EVERY_S) -> None:
        self._detector = detector
        self._scan_every_s = scan_every_s
        self._scanned_s = float("-inf")
        self._faces: list[Face] = []

    def detect(self, frame: Frame, time_s: float, *, min_confidence: float = 0.6, max_faces: int = 16) -> list[Face]:
        """Faces of the frame at `time_s`, which must not decrease; see FaceDetector."""
        due = time_s - self._scanned_s > self._scan_every_s - 1e-6
        faces = None if due or self._crowded(frame) else self._follow(frame, min_confidence)
        if faces is None:
            faces = self._detector.detect(frame, min_confidence=min_confidence, max_faces=max_faces)
            self._scanned_s = time_s
        self._faces = faces
        return faces

    def _crowded(self, frame: Frame) -> bool:
        """Whether the regions of all faces have more pixels than a scan, so that following would cost more."""
        height, width = frame.shape[:2]
        scanned: int = min(height * width, SCAN_PX)
        return len(self._faces) * REGION_PX**2 > scanned

    def _follow(self, frame: Frame, min_confidence: float) -> list[Face] | None:
        """The same faces in the next frame; None where one of them is not found, so that only a scan can tell."""
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
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(region, size, interpolation=way), dtype=np.uint8)
        factor = (region.shape[1] / size[0], region.shape[0] / size[1])
        found = self._detector.detect(picture, min_confidence=min_confidence)
        return [_placed(face, factor, (left, top)) for face in found]


def _placed(face: Face, factor: tuple[float, float], origin: tuple[int, int]) -> Face:
    """A face of an enlarged region, in pixels of the frame; pixels are counted at their centres."""
    (fx, fy), (left, top), box = factor, origin, face.box
    points = face.landmarks.as_array()
    x, y = (points[:, 0] + 0.5) * fx - 0.5 + left, (points[:, 1] + 0.5) * fy - 0.5 + top
    landmarks = Landmarks(*(Point(float(px), float(py)) for px, py in zip(x, y, strict=True)))
    return Face(Box(box.x * fx + left, box.y * fy + top, box.width * fx, box.height * fy), landmarks, face.confidence)
