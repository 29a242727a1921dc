"""MakeHuman's texture coordinates for a head of another topology, so that it can wear the same skins.

Both heads are looked at from the front. Points that look alike give a thin-plate spline from one frontal plane to the
other, and there the foremost surface of MakeHuman's head tells the coordinates.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, RBFInterpolator

from training.rendered.mesh import Mesh

_ALIKE = np.array(
    [
        [0.00, -11.10, 0.00, -11.78],
        [1.14, -11.00, 1.27, -11.69],
        [2.84, -10.22, 3.13, -10.94],
        [4.49, -8.93, 4.87, -9.62],
        [5.20, -8.05, 5.59, -8.70],
        [0.00, -7.63, 0.00, -7.81],
        [0.68, -7.58, 0.70, -7.76],
        [1.31, -7.42, 1.36, -7.63],
        [1.82, -7.18, 1.89, -7.44],
        [2.19, -6.97, 2.28, -7.30],
        [5.82, -6.80, 6.20, -7.39],
        [2.45, -6.75, 2.59, -7.13],
        [0.00, -6.73, 0.00, -7.00],
        [1.87, -6.72, 1.99, -7.06],
        [1.53, -6.71, 1.62, -7.03],
        [0.57, -6.71, 0.60, -6.98],
        [1.09, -6.70, 1.15, -6.99],
        [1.88, -6.32, 1.95, -6.75],
        [1.38, -6.05, 1.42, -6.50],
        [0.00, -5.92, 0.00, -6.37],
        [0.67, -5.79, 0.71, -6.25],
        [6.27, -5.17, 6.66, -5.68],
        [0.00, -3.73, 0.00, -3.73],
        [6.61, -3.62, 7.01, -4.04],
        [0.00, -2.32, 0.00, -2.26],
        [6.81, -2.14, 7.23, -2.47],
        [0.00, -1.09, 0.00, -1.02],
        [3.05, -0.71, 3.37, -0.72],
        [6.92, -0.69, 7.38, -0.93],
        [2.55, -0.67, 2.83, -0.67],
        [3.49, -0.65, 3.87, -0.68],
        [2.09, -0.59, 2.32, -0.58],
        [1.76, -0.54, 1.94, -0.53],
        [0.00, -0.44, 0.00, -0.36],
        [3.96, -0.43, 4.40, -0.50],
        [3.83, -0.04, 4.27, -0.04],
        [2.12, -0.03, 2.33, 0.03],
        [2.61, 0.14, 2.88, 0.23],
        [3.10, 0.17, 3.42, 0.26],
        [0.00, 0.27, 0.00, 0.40],
        [6.84, 0.84, 7.35, 0.72],
        [5.22, 0.89, 5.75, 0.92],
        [1.15, 1.06, 1.28, 1.27],
        [2.60, 1.46, 2.91, 1.70],
        [3.74, 1.54, 4.16, 1.72],
        [6.56, 2.09, 7.10, 2.11],
        [5.97, 3.28, 6.48, 3.43],
        [4.97, 4.25, 5.41, 4.51],
        [3.47, 4.94, 3.79, 5.28],
        [1.88, 5.28, 2.05, 5.66],
        [0.00, 5.34, 0.00, 5.74],
        [1.46, -3.79, 1.61, -4.43],
    ]
)
"""Points that look alike on the mean of young Caucasian women and men in MakeHuman and on ICT-FaceKit's mean face.

Each row: x and y on MakeHuman's, x and y on ICT-FaceKit's, in cm from the middle between the eyeballs, on the left half
and the middle of the face. The chin, the lips, the bridge of the nose, the eyes, the brows and the face's oval were
found by MediaPipe's face landmarker on renders of both, and made symmetrical; the wing of the nose was set by hand.
"""

_FACING = 0.2
"""A surface whose normal has at least this share toward the front is seen."""

_HEAD_ISLAND = 0.63
"""The head's island of the texture lies to the right of this coordinate; that of the neck and the trunk, left of it."""


def texture_coordinates(ict: Mesh, makehuman: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return texture coordinates of MakeHuman's for a head of ICT-FaceKit's, [V, 2], and how surely each is right, [V].

    Both meshes are the means that the points were found on. The second array is in [0, 1], and 0 for what is not seen
    from the front, whose coordinates are then those of the nearest seen point.
    """
    mirror = np.where(_ALIKE[:, [0]] > 0, _ALIKE * [-1, 1, -1, 1], np.nan)
    pairs = np.concatenate([_ALIKE, mirror[~np.isnan(mirror[:, 0])]])
    spline = RBFInterpolator(pairs[:, 2:], pairs[:, :2], kernel="thin_plate_spline", smoothing=0.001)
    places = spline(ict.vertices[:, :2].astype(np.float64))
    seen = (makehuman.normals[:, 2] > _FACING) & (makehuman.uv[:, 0] > _HEAD_ISLAND)
    lookup = LinearNDInterpolator(makehuman.vertices[seen, :2], makehuman.uv[seen])
    found = lookup(places)
    sure = np.clip((ict.normals[:, 2] - _FACING) / 0.3, 0, 1).astype(np.float64)
    beside = np.isnan(found[:, 0])
    sure[beside] = 0
    found[beside] = makehuman.uv[seen].mean(axis=0)
    return found, sure
