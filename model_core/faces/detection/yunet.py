"""The fastest detector, for those who bring its weights: YuNet in OpenCV, from an ONNX file."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from model_core.faces.detection.contract import Candidates, PerThread, detect_shrunk
from model_core.faces.geometry import Face, Frame

MIN_SIDE_PX = 64
"""Smaller pictures are padded: where a side has 32 pixels or fewer, OpenCV answers with what its memory held before."""


class YuNetDetector:
    """YuNet (Wu et al. 2023) through OpenCV's FaceDetectorYN.

    The file is read once: what happens to it later changes nothing. Frames whose longer side exceeds `max_side_px` are
    shrunk to it first. Raises ValueError for a file that cannot be read or is not this network.
    """

    def __init__(self, model: Path, max_side_px: int = 640) -> None:
        try:
            content = model.read_bytes()
        except OSError as error:
            raise ValueError(f"the face detector's file {model} cannot be read: {error.strerror}") from error
        self._max_side_px = max_side_px
        self._name = f"yunet-{hashlib.sha256(content).hexdigest()[:8]}"
        try:
            self._networks = PerThread(lambda: _network(content))
            self.detect(np.zeros((MIN_SIDE_PX, MIN_SIDE_PX, 3), np.uint8))
        except (cv2.error, ValueError) as error:
            raise ValueError(f"the face detector's file {model} is not a YuNet network in ONNX format") from error

    @property
    def name(self) -> str:
        """`yunet-` and the first eight hexadecimal digits of the file's SHA-256: the weights, not where they lie."""
        return self._name

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """See FaceDetector. `frame` is uint8 [H, W, 3] RGB; results are in its pixels."""
        return detect_shrunk(
            frame,
            lambda image: self._find(image, min_confidence),
            max_side_px=self._max_side_px,
            min_confidence=min_confidence,
            max_faces=max_faces,
        )

    def _find(self, image: Frame, min_confidence: float) -> Candidates:
        network = self._networks.value
        height, width = (max(0, MIN_SIDE_PX - side) for side in image.shape[:2])
        padded = cv2.copyMakeBorder(image, 0, height, 0, width, cv2.BORDER_CONSTANT)
        network.setInputSize((padded.shape[1], padded.shape[0]))
        # It drops what only equals its threshold, and takes none below zero.
        network.setScoreThreshold(max(0.0, min_confidence - 1e-6))
        _, found = network.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
        rows = np.empty((0, 15)) if found is None else found.astype(np.float64)
        # A face in the padding is none.
        middles = rows[:, :2] + rows[:, 2:4] / 2
        rows = rows[(middles < image.shape[1::-1]).all(axis=1)]
        # "Right" is the person's right in its documentation, so its order of points is the image's from left to right.
        return Candidates(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])


def _network(content: bytes) -> cv2.FaceDetectorYN:
    buffer, no_config = np.frombuffer(content, np.uint8), np.zeros(0, np.uint8)
    return cv2.FaceDetectorYN.create("onnx", buffer, no_config, (32, 32))
