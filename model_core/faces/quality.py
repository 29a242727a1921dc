"""The quality of a face: its size and sharpness in the frame, and the reasons to doubt its estimates."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from model_core.faces.geometry import Box, Crop, Face
from model_core.faces.pose import Pose

JUDGED_CROP = ("arcface-1", 112)
"""Alignment and size in pixels of the crops whose sharpness and noise are judged, whatever the networks look at: both
depend on the size."""

MIN_FACE_PX = 24
MIN_SHARPNESS = 0.05
"""Limits below which a face is small or blurred. At these levels of the robustness study (MODEL_CARD.md) the shipped
weights' accuracy is still within about three percentage points of that on unchanged faces."""

MAX_NOISE = 12.0
"""Grey levels of noise above which a face is noisy. With noise of 10 levels the shipped weights' accuracy is within
about two percentage points of that on unchanged faces, with 20 about ten below (`python -m training.studies.reasons`).
"""

MAX_OUTSIDE = 0.4
"""Share of a face's box above which the face is outside of its frame. There accuracy is fifteen points lower, and less
than two per cent of the faces of FER+, which are cut tightly, are cut so much."""

MAX_YAW = 40.0
MAX_PITCH = 25.0
"""Degrees to either side beyond which a face looks away. On the 2,719 validation faces of FER+ that have a majority, 51
do, and accuracy is 0.80 among them and 0.90 among the others (same study). On rendered faces, which are turned by up to
45 degrees, no such loss shows."""

_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])

_HALF_SHARP_VARIANCE = 100.0
"""Variance of the Laplacian at which the sharpness is one half."""


Reason: TypeAlias = Literal["small", "blurred", "noisy", "turned", "outside"]


@dataclass(frozen=True)
class Quality:
    """The size and the sharpness of a face, and the reasons to doubt its estimates."""

    face_px: int
    """Shorter side of the box in pixels of the source frame, rounded down."""

    sharpness: float
    """Amount of fine detail in the crop, in [0, 1); see `sharpness`."""

    reasons: tuple[Reason, ...] = ()
    """Reasons to doubt the estimates: the face is small, blurred or noisy, it looks away from the camera or
    could not be turned upright, or a good part of it is outside of the frame."""

    @property
    def reliable(self) -> bool:
        """True if there is no reason to doubt the estimates."""
        return not self.reasons


def assess(face: Face, pose: Pose, crop: Crop, frame_size: tuple[int, int]) -> Quality:
    """Return the quality of a face in a frame of `frame_size` (height and width), and of its crop.

    The crop has the alignment and the size of JUDGED_CROP, on which the limits rest, uint8 [S, S, 3].
    """
    face_px = int(min(face.box.width, face.box.height))
    detail = sharpness(crop)
    doubts: dict[Reason, bool] = {
        "small": face_px < MIN_FACE_PX,
        "blurred": detail < MIN_SHARPNESS,
        "noisy": noise(crop) > MAX_NOISE,
        "turned": not face.settled or looks_away(pose),
        "outside": outside_share(face.box, frame_size) > MAX_OUTSIDE,
    }
    return Quality(face_px, detail, tuple(reason for reason, holds in doubts.items() if holds))


def sharpness(crop: Crop) -> float:
    """Return v / (v + 100), in [0, 1), where v is the variance of the Laplacian of the crop's luminance.

    The value depends on the crop's size, so only crops of one size can be compared.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    variance = float(np.var(cv2.Laplacian(grey, cv2.CV_32F)))
    return variance / (variance + _HALF_SHARP_VARIANCE)


def looks_away(pose: Pose) -> bool:
    """Return True if a head is turned so far from the camera that its estimates are doubtful."""
    return abs(pose.yaw) > MAX_YAW or abs(pose.pitch) > MAX_PITCH


def noise(crop: Crop) -> float:
    """Return an estimate of the standard deviation of white noise in the crop's luminance, in grey levels of 255.

    It is Immerkaer's (1996): the mean absolute response to the difference of two Laplacians, which edges and smooth
    shading hardly excite.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    response = cv2.sepFilter2D(grey, cv2.CV_16S, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)
    return float(np.sqrt(np.pi / 2) / 6 * cv2.norm(response, cv2.NORM_L1) / grey.size)


def outside_share(box: Box, frame_size: tuple[int, int]) -> float:
    """Return the share of a box, in [0, 1], that is outside of a frame of `frame_size`, height and width."""
    height, width = frame_size
    across = min(box.x + box.width, width) - max(box.x, 0.0)
    down = min(box.y + box.height, height) - max(box.y, 0.0)
    return 1 - max(across, 0.0) * max(down, 0.0) / box.area if box.area > 0 else 0.0
