"""The colours of two rows of teeth that are bands without gaps, as MakeHuman's helper meshes are."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = Literal["upper", "lower"]
ROWS: tuple[Row, ...] = ("upper", "lower")

_UPPER_CM = np.array([0.0, 0.85, 1.5, 2.25, 2.95, 3.65, 4.65])
_LOWER_CM = np.array([0.0, 0.55, 1.15, 1.85, 2.55, 3.25, 4.35])
_GUM = np.array([0.42, 0.12, 0.11])
_GAP = np.array([0.16, 0.07, 0.05])


def tooth_colours(points: NDArray[np.floating], row: Row, enamel: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the colours of a row's vertices at rest, float32 [V, 3]: teeth with dark gaps, and the gum at their roots.

    points: [V, 3] in cm, from which the place along the arch is told. enamel: [3] in linear RGB.
    """
    front = points[:, 2].max()
    along = np.abs(points[:, 0]) * np.sqrt(1 + ((front - points[:, 2]) / np.maximum(np.abs(points[:, 0]), 0.3)) ** 2)
    edges = _UPPER_CM if row == "upper" else _LOWER_CM
    from_edge = np.abs(along[:, None] - edges[None, :]).min(axis=1)
    gap = np.clip(1 - from_edge / 0.07, 0, 1)[:, None]
    low, high = points[:, 1].min(), points[:, 1].max()
    rootward = (points[:, 1] - low) / (high - low)
    if row == "lower":
        rootward = 1 - rootward
    gum = np.clip((rootward - 0.62 + 0.1 * np.clip(1 - from_edge / 0.25, 0, 1)) / 0.06, 0, 1)[:, None]
    darker = (1 - 0.5 * np.clip((along - 1.5) / 3, 0, 1))[:, None]
    tooth = np.asarray(enamel) * darker * (1 - 0.6 * gap) + _GAP * 0.6 * gap
    return np.asarray(tooth * (1 - gum) + _GUM * darker * gum, dtype=np.float32)
