"""The quality of a face: its size and sharpness in the frame, and the reasons to doubt its estimates."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from model_core.faces.geometry import Crop, Face

MIN_FACE_PX = 24
MIN_SHARPNESS = 0.05
"""Limits below which a face is small or blurred. At these levels of the robustness study (MODEL_CARD.md) the shipped
weights' accuracy is still within about three percentage points of that on unchanged faces."""

_HALF_SHARP_VARIANCE = 100.0
"""Variance of the Laplacian at which the sharpness is one half."""


Reason: TypeAlias = Literal["small", "blurred", "turned"]


@dataclass(frozen=True)
class Quality:
    """The size and the sharpness of a face, and whether it is upright in its crop."""

    face_px: int
    """Shorter side of the box in pixels of the source frame, rounded down."""

    sharpness: float
    """Amount of fine detail in the crop, in [0, 1); see `sharpness`."""

    reasons: tuple[Reason, ...] = ()
    """Reasons to doubt the estimates: the face is small, it is blurred, or it could not be turned upright."""

    @property
    def reliable(self) -> bool:
        """True if there is no reason to doubt the estimates."""
        return not self.reasons


def assess(face: Face, crop: Crop) -> Quality:
    """Return the quality of a face in the source frame, and of its crop, uint8 [S, S, 3] RGB."""
    face_px = int(min(face.box.width, face.box.height))
    detail = sharpness(crop)
    doubts: dict[Reason, bool] = {
        "small": face_px < MIN_FACE_PX,
        "blurred": detail < MIN_SHARPNESS,
        "turned": not face.settled,
    }
    return Quality(face_px, detail, tuple(reason for reason, holds in doubts.items() if holds))


def sharpness(crop: Crop) -> float:
    """Return v / (v + 100), in [0, 1), where v is the variance of the Laplacian of the crop's luminance.

    The value depends on the crop's size, so only crops of one size can be compared.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    variance = float(np.var(cv2.Laplacian(grey, cv2.CV_32F)))
    return variance / (variance + _HALF_SHARP_VARIANCE)
