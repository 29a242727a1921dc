"""What rendered faces tell of their eyes beside the units: gaze, closed lids, and how the head is turned.

Lids sink where a face looks down, and brows where it is turned down. A network that learns these, too, tells the units
from them sooner. The head that learns them is dropped when the network is saved.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.datasets.rendered import RenderedPicture

OUTPUTS = 5
"""Gaze to the side and up, closed eyes, yaw and pitch."""

_RANGES = np.array([30, 30, 1, 45, 45], dtype=np.float32)
"""Values of 1, in degrees, but for closed eyes."""

_SIDEWAYS = np.array([-1, 1, 1, -1, 1], dtype=np.float32)
"""-1 where a mirror image has the opposite value."""


def eye_targets(pictures: Sequence[RenderedPicture]) -> NDArray[np.float32]:
    """Return what is known of N pictures, float32 [N, 5], mostly in [-1, 1]."""
    values = [[*picture.gaze, picture.eyes_closed, picture.yaw, picture.pitch] for picture in pictures]
    return np.asarray(np.array(values, dtype=np.float32).reshape(-1, OUTPUTS) / _RANGES)


def mirrored_where(targets: NDArray[np.float32], mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return targets [B, 5] of faces, of which those of `mirrored`, bool [B], are seen as mirror images."""
    return np.where(mirrored[:, None], targets * _SIDEWAYS, targets)
