"""YuNet in OpenCV, the fastest detector; its weights are an ONNX file that the user provides."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from model_core.faces.detection.contract import Candidates
from model_core.faces.geometry import Frame
from model_core.faces.per_thread import PerThread

MIN_SIDE_PX = 64
"""Smaller images are padded to this side: with 32 pixels or fewer, OpenCV returns what its memory held before."""


class YuNetNetwork:
    """YuNet (Wu et al., MIR 2023) in OpenCV's FaceDetectorYN."""

    def __init__(self, model: Path) -> None:
        """Take the network's ONNX file, which is read here and never again.

        Raises ValueError for a file that cannot be read or is not this network.
        """
        try:
            content = model.read_bytes()
        except OSError as error:
            raise ValueError(f"the face detector's file {model} cannot be read: {error.strerror}") from error
        self._name = f"yunet-{hashlib.sha256(content).hexdigest()[:8]}"
        try:
            self._networks = PerThread(lambda: _network(content))
            self.find(np.zeros((MIN_SIDE_PX, MIN_SIDE_PX, 3), np.uint8), min_confidence=0.6)
        except (cv2.error, ValueError) as error:
            raise ValueError(f"the face detector's file {model} is not a YuNet network in ONNX format") from error

    @property
    def name(self) -> str:
        """`yunet-` and the first eight hexadecimal digits of the file's SHA-256, which identify the weights."""
        return self._name

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        """See FaceNetwork."""
        network = self._networks.value
        height, width = (max(0, MIN_SIDE_PX - side) for side in image.shape[:2])
        padded = cv2.copyMakeBorder(image, 0, height, 0, width, cv2.BORDER_CONSTANT)
        network.setInputSize((padded.shape[1], padded.shape[0]))
        # OpenCV drops a score that only equals the threshold, and accepts no threshold below zero.
        network.setScoreThreshold(max(0.0, min_confidence - 1e-6))
        _, found = network.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
        rows = np.empty((0, 15)) if found is None else found.astype(np.float64)
        # Detections whose centre lies in the padding are dropped.
        middles = rows[:, :2] + rows[:, 2:4] / 2
        rows = rows[(middles < image.shape[1::-1]).all(axis=1)]
        # "Right" is the person's right in OpenCV's documentation, so the points run from left to right in the image.
        return Candidates(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])


def _network(content: bytes) -> cv2.FaceDetectorYN:
    """Return a network that is read from the content of an ONNX file; its input size is set at each call."""
    buffer = np.frombuffer(content, np.uint8)
    no_config = np.zeros(0, np.uint8)
    return cv2.FaceDetectorYN.create("onnx", buffer, no_config, (32, 32))
