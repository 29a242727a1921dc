"""How much of a face the network gets to see."""

from dataclasses import dataclass

import cv2
import numpy as np

from model_core.faces.geometry import Box, Crop

MIN_FACE_PX = 24
MIN_SHARPNESS = 0.05
"""Limits of `reliable`: the last levels of the robustness study (MODEL_CARD.md) at which the shipped weights' accuracy
is within about three points of that on the faces as they are."""

_HALF_SHARP_VARIANCE = 100.0


@dataclass(frozen=True)
class Quality:
    """face_px: the shorter side of the box in source pixels. sharpness: in [0, 1), from the crop's fine detail."""

    face_px: int
    sharpness: float

    @property
    def reliable(self) -> bool:
        """Whether the face is large and sharp enough for its numbers to be trusted."""
        return self.face_px >= MIN_FACE_PX and self.sharpness >= MIN_SHARPNESS


def assess(box: Box, crop: Crop) -> Quality:
    """The quality of a face whose `box` is in source pixels and whose `crop` is the network's input."""
    return Quality(int(min(box.width, box.height)), sharpness(crop))


def sharpness(crop: Crop) -> float:
    """v / (v + 100), in [0, 1), for the variance v of the Laplacian of the crop's luminance.

    It depends on the crop's size: compare crops of one network's input size only.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    variance = float(np.var(cv2.Laplacian(grey, cv2.CV_32F)))
    return variance / (variance + _HALF_SHARP_VARIANCE)
