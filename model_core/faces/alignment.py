"""Five-point alignment, which cuts a square crop in a fixed pose out of a frame.

A network learns one pose of the face, so the template is part of its input contract. Templates are named and versioned:
a published one is never edited, and a better one gets a new name.
"""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Crop, Frame, Landmarks

TEMPLATE_SIZE = 112
"""Side in pixels of the crop in which the templates are given."""

TEMPLATES: Mapping[str, NDArray[np.float64]] = MappingProxyType(
    {
        # The target positions published with ArcFace (Deng et al., CVPR 2019).
        "arcface-1": np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]),
        # The frontal template of the DDAMFN authors' own crops; 1.27 times tighter.
        "ddamfn-frontal-1": np.array(
            [[33.566, 40.559], [78.321, 40.559], [55.338, 64.967], [38.479, 90.276], [73.591, 90.276]]
        ),
    }
)
"""By name, the target positions of the landmarks: float64 [5, 2] as (x, y) in pixels of a crop of 112 x 112, in the
order of Landmarks; whole numbers are pixel centres."""

_MAX_SIDE = 32_767
"""Side in pixels from which on OpenCV does not warp a frame."""


def similarity_transform(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least-squares rotation, uniform scale and shift from `source` to `target` (Umeyama 1991).

    Both are points, float64 [N, 2]; the transform is float64 [2, 3], and reflections are excluded. Raises ValueError if
    the source points coincide, because no pose is defined then.
    """
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    # In the plane, a rotation with scale is a complex number, so the least-squares fit is one division.
    s = (source - centre_s) @ np.array([1.0, 1.0j])
    t = (target - centre_t) @ np.array([1.0, 1.0j])
    spread = float(np.vdot(s, s).real)
    if not np.isfinite(spread) or spread < 1e-6:
        raise ValueError("landmarks coincide: no pose can be estimated")
    factor = complex(np.vdot(s, t)) / spread
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, centre_t - linear @ centre_s])


def align(frame: Frame, landmarks: Landmarks, template: str, size: int) -> Crop:
    """Return an aligned face of a frame, uint8 [size, size, 3] RGB; pixels outside the frame repeat its edge.

    Large faces are smoothed before they shrink, so that fine texture does not alias. Crops below TEMPLATE_SIZE are cut
    at that size and then averaged, as in training, which stores crops at that size. Raises KeyError for a template
    that is not in TEMPLATES, and ValueError if the landmarks coincide.
    """
    if size < TEMPLATE_SIZE:
        return shrink(align(frame, landmarks, template, TEMPLATE_SIZE), size)
    target = (TEMPLATES[template] + 0.5) * (size / TEMPLATE_SIZE) - 0.5  # whole numbers are pixel centres
    return warp(frame, similarity_transform(landmarks.as_array(), target), size)


def warp(frame: Frame, matrix: NDArray[np.float64], size: int) -> Crop:
    """Return the square of a frame that a similarity transform shows, uint8 [size, size, 3] RGB.

    A grey frame, uint8 [H, W], gives a grey square. `matrix` is float64 [2, 3], from pixels of the frame to pixels of
    the crop. Pixels outside the frame repeat its edge. Where the frame is shrunk to less than half, it is averaged
    first, so that fine texture does not alias.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        frame, matrix = _shrink_around(frame, matrix, scale, size)
    elif max(frame.shape[:2]) >= _MAX_SIDE:
        frame, x0, y0 = _part_around(frame, matrix, size)
        matrix = matrix @ np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]])
    warped = cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def shrink(crop: Crop, size: int) -> Crop:
    """Return a crop averaged down to uint8 [size, size, 3]; a crop of that size is returned as it is."""
    if crop.shape[0] == size:
        return crop
    return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrink_around(
    frame: Frame, matrix: NDArray[np.float64], scale: float, size: int
) -> tuple[Frame, NDArray[np.float64]]:
    """Average the part of the frame that the crop shows down to twice the crop's resolution, and adapt the matrix."""
    part, x0, y0 = _part_around(frame, matrix, size)
    new_size = (max(1, round(part.shape[1] * 2 * scale)), max(1, round(part.shape[0] * 2 * scale)))
    small = cv2.resize(part, new_size, interpolation=cv2.INTER_AREA)
    fx, fy = new_size[0] / part.shape[1], new_size[1] / part.shape[0]
    # Small pixel u covers source pixels around (u + 0.5) / f - 0.5 + offset, by cv2's pixel-centre convention.
    to_source = np.array([[1 / fx, 0, 0.5 / fx - 0.5 + x0], [0, 1 / fy, 0.5 / fy - 0.5 + y0], [0, 0, 1]])
    return np.asarray(small, dtype=np.uint8), matrix @ to_source


def _part_around(frame: Frame, matrix: NDArray[np.float64], size: int) -> tuple[Frame, int, int]:
    """Return the part of a frame that a crop shows, with a margin for interpolation, and its left and upper edge."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ inverse.T
    height, width = frame.shape[:2]
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, [width - 1, height - 1])
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, [x0 + 1, y0 + 1], [width, height])
    return frame[y0:y1, x0:x1], int(x0), int(y0)
