"""Landmarks and boxes of training faces: the mean of many looks of the face detector at jittered places.

A single answer of the detector yuface misses its own mean by about 1.4 of the crop's 112 pixels. Half of the looks are
at the mirror image, so that the mean is symmetrical, too.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATES, similarity_transform, warp
from model_core.faces.detection import YuFaceNetwork, scan
from model_core.faces.geometry import Box, Face, Frame
from training.datasets import DatasetReader, RawFace, build_reader

LOOKS = 6
LOOK_PX = 256
"""Side in pixels of a look. A face in it is about 180 pixels high, as in the pictures of FER+ when they are scanned:
the detector places landmarks differently at other sizes, by up to three pixels of the crop."""

MIRRORED = [1, 0, 2, 4, 3]
"""Order of the landmarks in the mirror image."""

PICTURE_PX = 192
"""Side in pixels of a stored picture, which shows a face with as much around it as any region may need."""

_LOOK_TEMPLATE = (TEMPLATES["arcface-1"] - [56.0, 60.0]) * 1.7 + (LOOK_PX - 1) / 2
_PICTURE_TEMPLATE = (TEMPLATES["arcface-1"] - [56.0, 60.0]) * 0.8 + (PICTURE_PX - 1) / 2
_MIN_CONFIDENCE = 0.3
_MAX_SPREAD_PX = 2.5
"""Largest mean standard deviation of the looks in pixels of the stored picture; beyond it a face is not learned."""


@dataclass(frozen=True)
class LabelledFace:
    """A face that the detector found again and again, cut out upright."""

    picture: NDArray[np.uint8]
    """uint8 [PICTURE_PX, PICTURE_PX]: grey."""
    landmarks: NDArray[np.float64]
    """float64 [5, 2]: means of the looks, in pixels of the picture."""
    box: Box
    """Mean of the looks, in pixels of the picture."""


class _Worker:
    """The reader and the detector of a worker process."""

    current: "_Worker"

    def __init__(self, dataset: str) -> None:
        cv2.setNumThreads(1)
        self._reader: DatasetReader = build_reader(dataset)
        self._detector = YuFaceNetwork()

    @classmethod
    def start(cls, dataset: str) -> None:
        cls.current = cls(dataset)

    @classmethod
    def run(cls, record: RawFace) -> LabelledFace | None:
        return cls.current._label(record)

    def _label(self, record: RawFace) -> LabelledFace | None:
        frame = self._reader.load(record)
        found = scan(self._detector, frame, min_confidence=_MIN_CONFIDENCE)
        if not found:
            return None
        rng = np.random.default_rng(zlib.crc32(record.name.encode()))
        return label_face(frame, max(found, key=lambda face: face.box.area), self._detector, rng)


def label_faces(dataset: str, records: Sequence[RawFace], workers: int) -> Iterator[LabelledFace | None]:
    """Yield the face of each record, or None where the looks do not agree; `workers` processes look."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_Worker.start, initargs=(dataset,)) as pool:
        yield from pool.map(_Worker.run, records, chunksize=32)


def label_face(frame: Frame, face: Face, detector: YuFaceNetwork, rng: np.random.Generator) -> LabelledFace | None:
    """Return the mean of LOOKS looks at a face, or None if too few of them find it or they do not agree."""
    looks = _looks(frame, face.landmarks.as_array(), detector, rng)
    if len(looks) < LOOKS / 2:
        return None
    points, boxes = map(np.array, zip(*looks, strict=True))
    try:
        matrix = similarity_transform(points.mean(axis=0), _PICTURE_TEMPLATE)
    except ValueError:
        return None
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if points.std(axis=0).mean() * scale > _MAX_SPREAD_PX:
        return None
    x, y, width, height = boxes.mean(axis=0).tolist()
    centre = matrix[:, :2] @ [x, y] + matrix[:, 2] + 0.5
    box = Box(centre[0] - scale * width / 2, centre[1] - scale * height / 2, scale * width, scale * height)
    grey = np.asarray(cv2.cvtColor(warp(frame, matrix, PICTURE_PX), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return LabelledFace(grey, points.mean(axis=0) @ matrix[:, :2].T + matrix[:, 2], box)


def _looks(
    frame: Frame, points: NDArray[np.float64], detector: YuFaceNetwork, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    looks = []
    for number in range(LOOKS):
        try:
            matrix = similarity_transform(_jittered(points, rng), _LOOK_TEMPLATE)
        except ValueError:
            continue
        look = _look(frame, matrix, detector, mirrored=number % 2 == 1)
        if look is not None:
            looks.append(look)
    return looks


def _look(
    frame: Frame, matrix: NDArray[np.float64], detector: YuFaceNetwork, *, mirrored: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return landmarks, [5, 2], and box in pixels of the frame; None if no face is found.

    The box, [4], is the centre, the width and the height of the face turned upright.
    """
    if mirrored:
        matrix = np.array([[-1, 0, LOOK_PX - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    found = scan(detector, warp(frame, matrix, LOOK_PX), min_confidence=_MIN_CONFIDENCE)
    if not found:
        return None
    face = min(found, key=lambda each: float(np.hypot(*(_middle(each.box) - LOOK_PX / 2))))
    inverse = cv2.invertAffineTransform(matrix)
    scale = float(np.hypot(inverse[0, 0], inverse[1, 0]))
    points = face.landmarks.as_array() @ inverse[:, :2].T + inverse[:, 2]
    middle = inverse[:, :2] @ (_middle(face.box) - 0.5) + inverse[:, 2]
    box = np.array([*middle, face.box.width * scale, face.box.height * scale])
    return points[MIRRORED] if mirrored else points, box


def _jittered(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Move, turn and scale landmarks by a few per cent of the face."""
    centre = points.mean(axis=0)
    eyes_px = float(np.linalg.norm(points[1] - points[0]))
    angle = np.deg2rad(rng.normal(scale=5.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.normal(scale=0.06 * eyes_px, size=2)
    moved: NDArray[np.float64] = (points - centre) @ turn.T * np.exp(rng.normal(scale=0.06)) + centre + shift
    return moved


def _middle(box: Box) -> NDArray[np.float64]:
    return np.array([box.x + box.width / 2, box.y + box.height / 2])
