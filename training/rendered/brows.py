"""Brows of single hairs, placed by where a person's eyes are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.rendered.mesh import Mesh
from training.rendered.movements import SIDES
from training.rendered.strands import RidingStrands

_ALONG = np.array([0.0, 0.3, 0.62, 1.0])
_RISE_CM = np.array([-0.3, 0.0, 0.25, -0.3])
"""Height of the middle of a brow along its length, relative to its height above the pupil."""
_LEAN_DEG = np.array([62.0, 28.0, 8.0, -25.0])
"""Direction of the hairs along the brow: upright at the nose, downward at the temple."""


@dataclass(frozen=True)
class BrowStyle:
    """The resting shape of a person's brows."""

    height_cm: float
    """From the pupil to the middle of the brow: about 1.8 in men and 1.9 in women."""
    thickness_cm: float
    """At the inner end; the outer end has a third of it."""
    length: float
    """Relative to the usual one."""
    arch: float
    """Relative to the usual one; 0 is a straight brow."""
    hairs: int
    """Hairs of one brow."""


def brows(rest: Mesh, eyes_cm: float, style: BrowStyle, rng: np.random.Generator) -> RidingStrands:
    """Return the hairs of both brows, anchored on the skin at rest. eyes_cm: the distance of the eyeballs' centres."""
    strands = [
        _brow(eyes_cm, style, rng) * np.array([1.0 if side == "left" else -1.0, 1.0])[None, None] for side in SIDES
    ]
    xy = np.concatenate(strands)
    return RidingStrands(rest, xy, np.array([0.01, 0.05, 0.07, 0.05]), rng.uniform(0.025, 0.045, len(xy)))


def _brow(eyes_cm: float, style: BrowStyle, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the hairs of the left brow in the frontal plane, float64 [hairs, 4, 2] in cm."""
    scale = eyes_cm / 6.2
    t = rng.beta(1.15, 1.25, style.hairs)
    inner, outer = 1.25 * scale, (1.25 + 4.3 * style.length) * scale
    rise = np.interp(t, _ALONG, _RISE_CM) * style.arch
    thickness = style.thickness_cm * np.interp(t, [0, 0.15, 0.6, 1], [0.75, 1, 0.8, 0.3])
    across = rng.normal(0, 0.27, style.hairs).clip(-0.55, 0.55) * thickness
    root = np.stack([inner + t * (outer - inner), style.height_cm * scale + rise + across], axis=1)
    # Hairs above the middle of a brow lie flatter than those below.
    lean = np.radians(np.interp(t, _ALONG, _LEAN_DEG) - 40 * across / style.thickness_cm + rng.normal(0, 10, len(t)))
    length = rng.uniform(0.35, 0.75, len(t)) * np.interp(t, [0, 0.2, 1], [0.8, 1, 0.8])
    steps = np.linspace(0, 1, 4)[None, :] * length[:, None]
    bend = np.radians(rng.normal(-18, 8, len(t)))[:, None] * np.linspace(0, 1, 4)[None, :]
    angle = lean[:, None] + bend
    return np.asarray(root[:, None, :] + np.stack([steps * np.cos(angle), steps * np.sin(angle)], axis=2))
