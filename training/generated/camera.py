"""How a drawn face is filmed: the pose drifts, and so does the light; some frames are spoiled.

Every frame has noise and a slight blur. About a fifth are spoiled, one to three at a time: blurred and noisy as in
quick motion. In about a seventh, one to five at a time, something covers the mouth, the eyes or one half.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Crop
from training.generated.drawing import SIDE, Pose
from training.generated.spans import spans

_COVERS = (((0.0, 0.75), (0.7, 0.32)), ((0.0, -0.1), (0.75, 0.2)), ((-0.55, 0.1), (0.45, 0.9)))
"""Centres and half axes, in half sides of the picture."""


@dataclass(frozen=True)
class Shot:
    """The conditions of one frame.

    gain: factor on pixel values; slope: how much brighter (a share) the right rim is than the middle; blur_px and
    noise: standard deviations in pixels and grey levels; cover: an index of the things that may hide a part, or None.
    """

    pose: Pose
    gain: float = 1.0
    slope: float = 0.0
    blur_px: float = 0.0
    noise: float = 0.0
    cover: int | None = None


def shots(frames: int, rng: np.random.Generator) -> Iterator[Shot]:
    """One take of this many frames: conditions that drift, and spoiled frames."""
    yaw, roll, scale, across, down, gain, slope = (_drift(frames, rng) for _ in range(7))
    spoiled, covered = spans(frames, 0.2, 3, rng), spans(frames, 0.15, 5, rng)
    cover = int(rng.integers(len(_COVERS)))
    brightness, side_light = rng.uniform(0.7, 1.1), rng.uniform(-0.25, 0.25)
    for t in range(frames):
        pose = Pose(0.3 * yaw[t], 0.12 * roll[t], 1 + 0.05 * scale[t], (0.04 * across[t], 0.04 * down[t]))
        yield Shot(
            pose,
            brightness * (1 + 0.1 * gain[t]),
            side_light + 0.1 * slope[t],
            *((rng.uniform(2, 4), 25.0) if spoiled[t] else (rng.uniform(0.3, 0.7), 6.0)),
            cover if covered[t] else None,
        )


def film(picture: Crop, shot: Shot, rng: np.random.Generator) -> Crop:
    """uint8 [112, 112, 3] RGB -> what the camera makes of it, a new picture; the pose is the drawing's business."""
    seen = picture.copy()
    if shot.cover is not None:
        (x, y), axes = _COVERS[shot.cover]
        middle = (round((x + 1) * SIDE / 2), round((y + 1) * SIDE / 2))
        cv2.ellipse(seen, middle, (round(axes[0] * SIDE / 2), round(axes[1] * SIDE / 2)), 0, 0, 360, (96,) * 3, -1)
    if shot.blur_px:
        seen = cv2.GaussianBlur(seen, (0, 0), shot.blur_px).astype(np.uint8)
    light = shot.gain * (1 + shot.slope * np.linspace(-1, 1, SIDE, dtype=np.float32)[None, :, None])
    lit = seen * light + rng.standard_normal(seen.shape, dtype=np.float32) * shot.noise
    filmed: Crop = np.rint(lit).clip(0, 255).astype(np.uint8)
    return filmed


def _drift(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64 [frames] in [-1, 1]: two slow waves."""
    times = np.arange(frames)
    waves = [np.sin(2 * np.pi * (times / rng.uniform(50, 200) + rng.random())) for _ in range(2)]
    drift: NDArray[np.float64] = np.mean(waves, axis=0)
    return drift
