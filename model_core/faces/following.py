"""Detection in the consecutive frames of one video, without a search of every whole frame."""

from dataclasses import replace

from model_core.faces.detection import FaceDetector, largest
from model_core.faces.detection.refined import REGION_PX, is_same_face
from model_core.faces.geometry import Face, Frame
from model_core.faces.refinement import stands

SCAN_EVERY_S = 0.5
"""Time in seconds between scans of the whole frame; a new face may be found this much later."""

_THOROUGH_SCANS = 4
"""Every fourth scan is a thorough search, which also finds small faces."""

SCAN_AREA = 640 * 360
"""Largest number of pixels that a scan covers: detectors shrink a wide frame to about this."""


class FollowingDetector:
    """Scans whole frames at intervals, and in between searches for each face around its last position only.

    If a face is not found there, or if two faces become one, the whole frame is scanned at once. It is also scanned if
    there are so many faces that following them would cost more. A face that a scan misses is looked for where it was,
    then and in each frame until the next scan, so that one frame in which it is hidden costs no other. One object
    serves one video.
    """

    def __init__(self, detector: FaceDetector, scan_every_s: float = SCAN_EVERY_S) -> None:
        """Take a detector, and the time in seconds between scans."""
        self._detector = detector
        self._scan_every_s = scan_every_s
        self._faces: list[Face] = []
        self._missed: list[tuple[Face, float]] = []
        """Faces that are not found any more, and since when."""
        self._scanned_s = float("-inf")
        self._searched_s = float("-inf")

    def reset(self) -> None:
        """Forget all faces, so that the next frame is searched; for the first frame after a cut."""
        self._faces = []
        self._missed = []
        self._scanned_s = float("-inf")
        self._searched_s = float("-inf")

    def detect(self, frame: Frame, time_s: float, *, min_confidence: float = 0.6, max_faces: int = 16) -> list[Face]:
        """Return the faces of a frame, uint8 [H, W, 3] RGB, at a time in seconds that must not decrease.

        The options and the order of the faces are those of FaceDetector.
        """
        known = tuple(self._faces)
        crowded = self._crowded(frame)
        due = time_s - self._scanned_s > self._scan_every_s - 1e-6
        faces = None if due or crowded else self._follow(frame, min_confidence)
        if faces is None:
            faces = self._scan(frame, time_s, min_confidence, max_faces)
        if crowded:
            self._missed = []
        else:
            faces = largest([*faces, *self._found_again(frame, time_s, faces, min_confidence)], max_faces)
            self._missed += [(face, time_s) for face in known if not _among(face, faces)]
        self._faces = faces
        return faces

    def _found_again(self, frame: Frame, time_s: float, faces: list[Face], min_confidence: float) -> list[Face]:
        """Look for missed faces where they were, and return those that are there and not among `faces`."""
        found: list[Face] = []
        missed = [each for each in self._missed if time_s - each[1] <= self._scan_every_s]
        self._missed = []
        for face, since_s in missed:
            if _among(face, [*faces, *found]):
                continue
            again = self._detector.follow(frame, face, min_confidence=min_confidence)
            if again is None:
                self._missed.append((face, since_s))
            elif not _among(again, [*faces, *found]):
                found.append(again)
        return found

    def _scan(self, frame: Frame, time_s: float, min_confidence: float, max_faces: int) -> list[Face]:
        thorough = time_s - self._searched_s > _THOROUGH_SCANS * self._scan_every_s - 1e-6
        faces = self._detector.detect(frame, min_confidence=min_confidence, max_faces=max_faces, thorough=thorough)
        self._scanned_s = time_s
        if thorough:
            self._searched_s = time_s
        faces = [self._still(face) for face in faces]
        for known in self._faces:
            if not _among(known, faces):
                again = self._detector.follow(frame, known, min_confidence=min_confidence)
                if again is not None and not _among(again, faces):
                    faces.append(again)
        return largest(faces, max_faces)

    def _still(self, face: Face) -> Face:
        """Return a scanned face, with the landmarks and the box that it has had if it has not moved."""
        for known in self._faces:
            if stands(known, face):
                return replace(known, confidence=face.confidence)
        return face

    def _crowded(self, frame: Frame) -> bool:
        """Return True if the regions of all faces have more pixels than a scan, so that following costs more."""
        height, width = frame.shape[:2]
        scanned: int = min(height * width, SCAN_AREA)
        return len(self._faces) * REGION_PX**2 > scanned

    def _follow(self, frame: Frame, min_confidence: float) -> list[Face] | None:
        """Return the same faces in the next frame, or None if one of them is not found and a scan is needed."""
        followed: list[Face] = []
        for face in tuple(self._faces):
            again = self._detector.follow(frame, face, min_confidence=min_confidence)
            if again is None or _among(again, followed):
                self._faces.remove(face)  # a scan need not look for it there again
                return None
            followed.append(again)
        return largest(followed, None)


def _among(face: Face, others: list[Face]) -> bool:
    return any(is_same_face(face.box, other.box) for other in others)
