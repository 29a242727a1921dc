"""Placing the landmarks and the box of a detected face precisely, by a small network that looks at the face again.

A detector places the landmarks of one face differently in a scan, in an enlarged region and one pixel further on, by
about four per cent of the distance between the eyes, and near-upright on a face that lies on its side. This network
sees each face at one scale, and looks again at where it placed it, until that no longer moves. So the answer depends on
the face and hardly on the detection that it began with. It was trained on the mean of many looks of the detector yuface
(training/refinement), so upright faces keep the geometry that the bundles were trained with.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATES, similarity_transform
from model_core.faces.compiled_models import CompiledModels
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point
from model_core.faces.per_thread import PerThread
from model_core.openvino_package import import_openvino

VERSION = 1
"""Version of the geometry: crops of different versions differ."""

INPUT_PX = 64
"""Side in pixels of the grey picture that the network sees."""

PLACES = 14
OUTPUTS = PLACES + 1
"""Number of outputs: x and y of five landmarks relative to REGION, four for the box, and the doubt."""

LANDMARK_UNIT_PX = 8.0
"""Pixels of the input for which one landmark output is 1."""

_CENTRE = np.array([56.0, 60.0])
"""Centre of a face's region in pixels of the template arcface-1."""

TEMPLATE_SCALE = 0.45
"""Pixels of the input for each pixel of the template: the region is a third larger than a face's box."""

REGION = (TEMPLATES["arcface-1"] - _CENTRE) * TEMPLATE_SCALE + (INPUT_PX - 1) / 2
"""Positions of the landmarks of an upright, centred face in the input: float64 [5, 2] as (x, y), in pixels."""

MEAN_BOX = np.array([81.0, 108.0])
"""Mean width and height of yuface's boxes in pixels of the template."""

BOX_UNIT = np.array([20.0, 20.0, 0.25, 0.25])
"""What the box outputs count in: its centre in pixels of the template, and the logarithms of width and height."""

MAX_LOOKS = 6
"""Most looks at one face once it is upright; nearly all stand after three."""

STANDS_PX = 0.1
"""Mean movement of the landmarks, in pixels of the template, below which they stand."""

STILL_PX = 0.15
"""The same for a face that was refined in an earlier frame, and keeps its landmarks and its box."""

_REACH = 1.25
"""Distance from the middle of a detected box that looks may reach, as a multiple of its longer side."""

TURNED_DOUBT = -1.0
"""Doubt of a look from which the face may be turned, so that the other quarter turns are tried."""

MOST_SHRUNK = 3.0
"""Factor by which looks may make the longer side of a detected box smaller; beyond it they have run away."""

SETTLED_DOUBT = -1.5
"""Doubt of the last look from which a face is not settled."""


_Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps a normalised picture, float32 [1, 1, 64, 64], to outputs, float32 [1, OUTPUTS]."""


class Look(NamedTuple):
    """The network's answer about one region."""

    points: NDArray[np.float64]
    """float64 [5, 2]: (x, y) in pixels of the frame, in the order of Landmarks."""
    box: NDArray[np.float64]
    """float64 [4]: outputs for the box, see box_outputs."""
    doubt: float
    """Natural logarithm of the expected error of the outputs."""


class Surroundings:
    """The part of a frame around a face, with all that looks may see: in grey, and averaged to half sizes."""

    def __init__(self, frame: Frame, box: Box) -> None:
        height, width = frame.shape[:2]
        reach = _REACH * max(box.width, box.height)
        x, y = box.x + box.width / 2, box.y + box.height / 2
        left, right = np.clip([int(x - reach), int(x + reach) + 1], [0, 1], [width - 1, width])
        top, bottom = np.clip([int(y - reach), int(y + reach) + 1], [0, 1], [height - 1, height])
        part = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
        self._corner = np.array([left, top], dtype=np.float64)
        self._halvings = [cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)]

    def seen(self, matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the region that `matrix`, float64 [2, 3], maps from the frame to the input: uint8 [64, 64].

        A region that is shrunk to less than half is cut out of an averaged picture, so that fine texture does not
        alias. Pixels outside the frame repeat its edge.
        """
        halvings = max(0, int(-np.log2(_scale(matrix))))
        while len(self._halvings) <= halvings:
            self._halvings.append(_halved(self._halvings[-1]))
        # Pixel u of the picture covers `factor` pixels of the frame around factor * u + (factor - 1) / 2.
        factor = 2.0**halvings
        linear, shift = matrix[:, :2], matrix[:, 2]
        from_picture = np.column_stack([linear * factor, linear @ (self._corner + (factor - 1) / 2) + shift])
        seen = cv2.warpAffine(
            self._halvings[halvings],
            from_picture,
            (INPUT_PX, INPUT_PX),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(seen, dtype=np.uint8)


class LandmarkRefiner:
    """Places landmarks and boxes of detected faces; safe to call from several threads at once."""

    def __init__(self) -> None:
        content = files("model_core.faces").joinpath("refiner.onnx").read_bytes()
        try:
            self._run = _openvino_network(content)
        except ModuleNotFoundError:
            self._run = _opencv_network(content)

    def refine(self, frame: Frame, face: Face, before: Face | None = None) -> Face:
        """Return a face of a frame, uint8 [H, W, 3] RGB, with its landmarks and its box placed anew.

        The confidence is the detector's. The face is `settled` unless the network doubts its last look. `before`: the
        same face as it was refined in an earlier frame, at about the same place; where it still stands, it stays.
        """
        around = Surroundings(frame, face.box)
        look = self._look(around, _first_region(before or face))
        if before and stands(before, _placed(look, face.confidence)):
            return replace(before, confidence=face.confidence)

        @cache
        def turned(quarter: int) -> Look:
            return self._look(around, box_region(face.box, quarter))

        if look.doubt > TURNED_DOUBT:
            look = _least_doubted(look, *map(turned, (1, 2, 3)))
        look = self._standing(around, look)
        if look.doubt > TURNED_DOUBT:
            start = _least_doubted(*map(turned, range(4)))
            look = _least_doubted(look, self._standing(around, start))
        return _placed(look, face.confidence)

    def _standing(self, around: Surroundings, look: Look) -> Look:
        """Look again where a look has placed the face, until that no longer moves."""
        for _ in range(MAX_LOOKS):
            matrix = similarity_transform(look.points, REGION)
            previous, look = look, self._look(around, matrix)
            moved_px = float(np.abs(look.points - previous.points).mean()) * _scale(matrix) / TEMPLATE_SCALE
            if moved_px < STANDS_PX:
                break
        return look

    def _look(self, around: Surroundings, matrix: NDArray[np.float64]) -> Look:
        """Look at the face in the region of the frame that `matrix`, float64 [2, 3], maps to the input."""
        (outputs,) = self._run(normalised(around.seen(matrix))[None, None]).astype(np.float64)
        region = REGION + outputs[:10].reshape(5, 2) * LANDMARK_UNIT_PX
        inverse = cv2.invertAffineTransform(matrix)
        return Look(region @ inverse[:, :2].T + inverse[:, 2], outputs[10:PLACES], float(outputs[PLACES]))


def _least_doubted(*looks: Look) -> Look:
    return min(looks, key=lambda look: look.doubt)


def _openvino_network(content: bytes) -> _Network:
    """Return the network of an ONNX file. Raises ModuleNotFoundError if OpenVINO is not installed."""
    return CompiledModels(import_openvino().Core().read_model(content)).run


def _opencv_network(content: bytes) -> _Network:
    """Return the network of an ONNX file by OpenCV, which takes two to three times as long."""
    networks = PerThread(lambda: cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8)))

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        networks.value.setInput(image)
        return np.asarray(networks.value.forward(), np.float32)

    return run


def stands(before: Face, after: Face) -> bool:
    """Return True if a settled face is settled again, and has moved so little that looks can differ by as much."""
    moved_px = float(np.abs(after.landmarks.as_array() - before.landmarks.as_array()).mean())
    longer_side = max(before.box.width, before.box.height, 1.0)
    return before.settled and after.settled and moved_px * float(MEAN_BOX[1]) / longer_side < STILL_PX


def _placed(look: Look, confidence: float) -> Face:
    landmarks = Landmarks(*(Point(x, y) for x, y in look.points.tolist()))
    return Face(placed_box(look.points, look.box), landmarks, confidence, settled=look.doubt < SETTLED_DOUBT)


def has_collapsed(placed: Box, detected: Box) -> bool:
    """Return True if looks ran away from a face to a box far smaller than the detected one, in which there is none."""
    return MOST_SHRUNK * max(placed.width, placed.height) < max(detected.width, detected.height)


def _halved(grey: cv2.typing.MatLike) -> cv2.typing.MatLike:
    """Return a grey picture with the mean of every two by two pixels; a last odd row or column is left out."""
    height, width = (max(1, side // 2) for side in grey.shape)
    return cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def _first_region(face: Face) -> NDArray[np.float64]:
    """Return the region of the first look: by the landmarks so far, or by the box if these coincide."""
    try:
        return similarity_transform(face.landmarks.as_array(), REGION)
    except ValueError:
        return box_region(face.box)


def normalised(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a grey picture, uint8 [H, W], as the network expects it: float32 [H, W], about zero mean and unit spread.

    So neither brightness nor contrast of a picture matters.
    """
    values = grey.astype(np.float32) / 255
    normal: NDArray[np.float32] = (values - values.mean()) / (values.std() + 0.05)
    return normal


def box_region(box: Box, quarter: int = 0) -> NDArray[np.float64]:
    """Return the transform, float64 [2, 3], from the frame to the input for a face of which only the box is known.

    The input shows the face's surroundings turned by `quarter` quarter turns, 0 to 3.
    """
    scale = TEMPLATE_SCALE * MEAN_BOX[1] / max(box.width, box.height, 1.0)
    middle = np.array([box.x + box.width / 2 - 0.5, box.y + box.height / 2 - 0.5])  # pixel centres are whole numbers
    turn = scale * np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)
    return np.column_stack([turn, (INPUT_PX - 1) / 2 - turn @ middle])


def box_outputs(points: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Return the outputs, float64 [4], that stand for the box of an upright face with these landmarks, [5, 2]."""
    matrix = similarity_transform(points, TEMPLATES["arcface-1"])
    middle = matrix[:, :2] @ [box.x + box.width / 2 - 0.5, box.y + box.height / 2 - 0.5] + matrix[:, 2]
    size = np.log(np.array([box.width, box.height]) * _scale(matrix) / MEAN_BOX)
    outputs: NDArray[np.float64] = np.concatenate([middle - _CENTRE, size]) / BOX_UNIT
    return outputs


def placed_box(points: NDArray[np.float64], outputs: NDArray[np.float64]) -> Box:
    """Return the box of `box_outputs` around a face that may be turned.

    The inverse of box_outputs for an upright face; a turned one gets the box of the ellipse that the upright box holds.
    """
    middle, size = np.split(outputs * BOX_UNIT, 2)
    inverse = cv2.invertAffineTransform(similarity_transform(points, TEMPLATES["arcface-1"]))
    centre = inverse[:, :2] @ (middle + _CENTRE) + inverse[:, 2] + 0.5
    width, height = np.hypot(*(inverse[:, :2] * (MEAN_BOX * np.exp(np.clip(size, -1, 1)))).T).tolist()
    return Box(float(centre[0]) - width / 2, float(centre[1]) - height / 2, width, height)


def _scale(matrix: NDArray[np.float64]) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))
