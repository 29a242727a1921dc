"""The quality of a face: how large and how sharp it is in the frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from model_core.faces.geometry import Box, Crop

MIN_FACE_PX = 24
MIN_SHARPNESS = 0.05
"""Limits of `Quality.reliable`. At these levels of the robustness study (MODEL_CARD.md) the shipped weights' accuracy
is still within about three percentage points of that on unchanged faces."""

_HALF_SHARP_VARIANCE = 100.0
"""Variance of the Laplacian at which the sharpness is one half."""


@dataclass(frozen=True)
class Quality:
    """The size and the sharpness of a face."""

    face_px: int
    """Shorter side of the box in pixels of the source frame, rounded down."""

    sharpness: float
    """Amount of fine detail in the crop, in [0, 1); see `sharpness`."""

    @property
    def reliable(self) -> bool:
        """True if the face is large and sharp enough for its estimates to be trusted."""
        return self.face_px >= MIN_FACE_PX and self.sharpness >= MIN_SHARPNESS


def assess(box: Box, crop: Crop) -> Quality:
    """Return the quality of a face, from its box in the source frame and its crop, uint8 [S, S, 3] RGB."""
    return Quality(int(min(box.width, box.height)), sharpness(crop))


def sharpness(crop: Crop) -> float:
    """Return v / (v + 100), in [0, 1), where v is the variance of the Laplacian of the crop's luminance.

    The value depends on the crop's size, so only crops of one size can be compared.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    variance = float(np.var(cv2.Laplacian(grey, cv2.CV_32F)))
    return variance / (variance + _HALF_SHARP_VARIANCE)
