"""libfacedetection, the default detector, called in the shared library of the `yuface` wheel."""

import ctypes
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from model_core.faces.detection.contract import Candidates
from model_core.faces.geometry import Frame


class YuFaceNetwork:
    """libfacedetection (Yu et al.) from the `yuface` wheel, which includes the weights.

    It finds faces from about 20 pixels on, and places landmarks on whole pixels.
    """

    def __init__(self) -> None:
        """Raise ModuleNotFoundError if the wheel is not installed."""
        self._library = _load_libfacedetection()
        self._openmp = ThreadpoolController().select(user_api="openmp")
        self._name = f"yuface-{version('yuface')}"

    @property
    def name(self) -> str:
        """`yuface-` and the installed version of the wheel."""
        return self._name

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        """See FaceNetwork."""
        bgr = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        # One thread is fastest: several spin against the network's threads, which is a hundred times slower.
        with self._openmp.limit(limits=1):
            rows = _run_libfacedetection(self._library, bgr).astype(np.float64)
        return Candidates(rows[:, 1:5], rows[:, 5:15].reshape(-1, 5, 2), rows[:, 0] / 100)


def _load_libfacedetection() -> "ctypes._NamedFuncPointer":
    """Return the C++ entry point of the wheel's library, which is called without the wheel's Python module.

    That module leaks a result buffer of 36 kB in every call, and holds the interpreter's lock while it computes. Raises
    ModuleNotFoundError if the wheel, which is made for x86-64 Linux and Python up to 3.11, is not installed.
    """
    spec = find_spec("yuface")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the face detector yuface is not installed; it needs x86-64 and Python 3.11, so use yunet elsewhere",
            name="yuface",
        )
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "libfacedetection.so"))
    function = library[
        "_Z14facedetect_cnnPhS_iii"
    ]  # int *facedetect_cnn(unsigned char *, unsigned char *, int, int, int)
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    _run_libfacedetection(function, np.zeros((32, 32, 3), np.uint8))  # its first call sets up shared state
    return function


_RESULT_BYTES, _RESULT_SHORTS = 0x9000, 16
"""Sizes of the library's result buffer. It holds a count, then 16 shorts for each face: the confidence in per cent, x,
y, width, height, five points, and one unused."""


def _run_libfacedetection(function: "ctypes._NamedFuncPointer", image: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the rows of the result buffer, int16 [N, 16], for a contiguous image, uint8 [H, W, 3] BGR.

    Every call has a buffer of its own, so that several threads may call at once.
    """
    buffer = np.zeros(_RESULT_BYTES, np.uint8)
    height, width = image.shape[:2]
    function(buffer.ctypes.data, image.ctypes.data, width, height, image.strides[0])
    count = int(buffer[:4].view(np.int32)[0])
    return buffer[4 : 4 + 2 * _RESULT_SHORTS * count].view(np.int16).reshape(count, _RESULT_SHORTS)
