"""A labelled picture, made ready for a face detector."""

import math
from pathlib import Path

import cv2
import numpy as np

from model_core.faces.geometry import Box, Frame
from training.datasets.raw import DatasetError

_SMALLEST_PX = 192
_LARGEST_FACTOR = 8


def read_picture(path: Path) -> Frame:
    """uint8 [H, W, 3], RGB. Raises DatasetError where the file is missing or not a picture."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        raise DatasetError(f"picture is missing or unreadable: {path}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def around(picture: Frame, box: Box) -> Frame:
    """The box with a quarter of its size on every side, as far as the picture goes: uint8 [h, w, 3].

    A photograph may show several people; what is cut around the labelled face shows hardly more than that one. Raises
    DatasetError where the box lies outside the picture.
    """
    height, width = picture.shape[:2]
    left, right = (round(box.x + share * box.width) for share in (-0.25, 1.25))
    top, bottom = (round(box.y + share * box.height) for share in (-0.25, 1.25))
    cut = picture[max(top, 0) : min(max(bottom, 0), height), max(left, 0) : min(max(right, 0), width)]
    if not cut.size:
        raise DatasetError(f"{box} lies outside a picture of {width} x {height} pixels")
    return cut


def surrounded(picture: Frame) -> Frame:
    """uint8 [h, w, 3]: enlarged until no side is below 192 pixels, with a replicated border of a third of the shorter.

    It is enlarged by a whole number, eight at most. In sets of faces the face fills its picture to the edge, where
    detectors expect some surroundings.
    """
    height, width = picture.shape[:2]
    factor = min(math.ceil(_SMALLEST_PX / min(height, width)), _LARGEST_FACTOR)
    if factor > 1:
        picture = np.asarray(cv2.resize(picture, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC))
    border = (min(picture.shape[:2]) // 3,) * 4
    return np.asarray(cv2.copyMakeBorder(picture, *border, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)
