"""Random changes of a crop during training, drawn from a generator so that a resumed run repeats them."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model_core.faces.geometry import Crop
from training.data.perturbations import coarsened, compressed


class Augmentation(BaseModel):
    """How far crops are changed. All zero and flip off: crops are only resized.

    Rotation is drawn uniformly within +-`rotation_deg`; scale and shift within +-`scale` and +-`shift` (shares of the
    side); contrast and brightness likewise, and `lighting`, how far one side is brighter than the opposite one. `blur`,
    `resolution`, `noise`, `compression`, `erase` are probabilities of their effects.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = True
    rotation_deg: float = Field(15.0, ge=0, le=180)
    scale: float = Field(0.12, ge=0, lt=1)
    shift: float = Field(0.06, ge=0, lt=1)
    contrast: float = Field(0.35, ge=0, lt=1)
    brightness: float = Field(0.15, ge=0, le=1)
    lighting: float = Field(0.0, ge=0, lt=1)
    blur: float = Field(0.15, ge=0, le=1)
    resolution: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.15, ge=0, le=1)
    compression: float = Field(0.0, ge=0, le=1)
    erase: float = Field(0.3, ge=0, le=1)

    def mirrors(self, rng: np.random.Generator) -> bool:
        """Whether `apply` mirrors, given a generator in the same state: it asks here first."""
        return self.flip and rng.random() < 0.5

    def apply(self, crop: Crop, size: int, rng: np.random.Generator) -> Crop:
        """uint8 [S, S, 3] -> uint8 [size, size, 3]."""
        mirrored = self.mirrors(rng)
        image = self._warp(crop, size, rng, mirrored)
        image = self._optics(image, rng)
        image = self._photometry(image, rng)
        if rng.random() < self.compression:
            image = compressed(image, int(rng.integers(15, 70)))
        if rng.random() < self.erase:
            image = _erase(image, rng)
        return image

    def _warp(self, crop: Crop, size: int, rng: np.random.Generator, mirrored: bool) -> Crop:
        side = crop.shape[0]
        angle_deg, scale = rng.uniform(-1, 1, 2) * (self.rotation_deg, self.scale)
        shift = rng.uniform(-1, 1, 2) * self.shift * size
        middle = (side - 1) / 2  # pixels are counted at their centres, as `resize` does
        matrix = cv2.getRotationMatrix2D((middle, middle), angle_deg, (1 + scale) * size / side)
        matrix[:, 2] += (size - side) / 2 + shift
        if mirrored:
            matrix[0] = -matrix[0]
            matrix[0, 2] += size - 1
        return np.asarray(cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)

    def _optics(self, image: Crop, rng: np.random.Generator) -> Crop:
        if rng.random() < self.resolution:
            image = coarsened(image, int(rng.integers(16, 56)))
        if rng.random() < self.blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6) * image.shape[0] / 112), np.uint8)
        return image

    def _photometry(self, image: Crop, rng: np.random.Generator) -> Crop:
        gain = 1 + rng.uniform(-1, 1) * self.contrast
        offset = rng.uniform(-1, 1) * self.brightness * 255
        changed = (image.astype(np.float32) - 128) * gain + 128 + offset
        if self.lighting:
            changed *= _light(image.shape[0], rng.uniform(0, 2 * np.pi), rng.uniform(0, self.lighting))
        if rng.random() < self.noise:
            changed += rng.normal(0, rng.uniform(2, 12), image.shape[:2])[..., None]
        return changed.clip(0, 255).astype(np.uint8)


def _light(side: int, direction_rad: float, strength: float) -> NDArray[np.float32]:
    """Gains [side, side, 1] that rise linearly from 1 - strength to 1 + strength at most, towards a direction."""
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    across = ramp[None, :] * np.cos(direction_rad) + ramp[:, None] * np.sin(direction_rad)
    return np.asarray(1 + strength * across / np.sqrt(2), np.float32)[..., None]


def _erase(image: Crop, rng: np.random.Generator) -> Crop:
    """Cover a rectangle of 3 to 20 per cent of the area with one grey level (random erasing, Zhong et al. 2020)."""
    side = image.shape[0]
    area, ratio = rng.uniform(0.03, 0.2) * side * side, np.exp(rng.uniform(-1, 1))
    height, width = (min(side, max(1, int(length))) for length in (np.sqrt(area * ratio), np.sqrt(area / ratio)))
    y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
    image = image.copy()
    image[y : y + height, x : x + width] = rng.integers(0, 256)
    return image
