"""Random augmentation of crops in training, drawn from a given generator so that a resumed run repeats it."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model_core.faces.geometry import Crop
from training.data.perturbations import coarsened, compressed


class Augmentation(BaseModel):
    """Ranges and probabilities of the random changes. With all at 0 and `flip` off, crops are only resized."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = True
    """Mirror half of the crops."""
    rotation_deg: float = Field(15.0, ge=0, le=180)
    """Largest rotation in degrees, to either side."""
    scale: float = Field(0.12, ge=0, lt=1)
    """Largest enlargement or reduction, as a share."""
    shift: float = Field(0.06, ge=0, lt=1)
    """Largest shift along each axis, as a share of the side."""
    elastic: float = Field(0.0, ge=0, lt=0.1)
    """Standard deviation of a smooth deformation along each axis, as a share of the side."""
    contrast: float = Field(0.35, ge=0, lt=1)
    """Largest gain or loss of contrast, as a share."""
    brightness: float = Field(0.15, ge=0, le=1)
    """Largest offset of pixel values, as a share of 255."""
    lighting: float = Field(0.0, ge=0, lt=1)
    """Largest gain on one side of the crop, which the opposite side loses, as a share."""
    blur: float = Field(0.15, ge=0, le=1)
    """Probability of a Gaussian blur with a sigma of 0.4 to 1.6 pixels of 112."""
    resolution: float = Field(0.0, ge=0, le=1)
    """Probability of a reduction to a side of 16 to 55 pixels."""
    noise: float = Field(0.15, ge=0, le=1)
    """Probability of luminance noise with a sigma of 2 to 12 grey levels."""
    compression: float = Field(0.0, ge=0, le=1)
    """Probability of JPEG compression with a quality of 15 to 69."""
    erase: float = Field(0.3, ge=0, le=1)
    """Probability of a grey rectangle over 3 to 20 % of the area (random erasing, Zhong et al., 2020)."""

    def mirrors(self, rng: np.random.Generator) -> bool:
        """Return whether `apply` mirrors the crop, given a generator in the same state."""
        return self.flip and rng.random() < 0.5

    def apply(self, crop: Crop, size: int, rng: np.random.Generator, mirrored: bool | None = None) -> Crop:
        """Return a changed crop, uint8 [S, S, 3] -> uint8 [size, size, 3], drawn from `rng`.

        mirrored: whether it is mirrored. None: as `mirrors` says. All else is drawn alike.
        """
        drawn = self.mirrors(rng)
        mirrored = drawn if mirrored is None else mirrored
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
        if not self.elastic:
            warped = cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
            return np.asarray(warped, dtype=np.uint8)
        places = np.moveaxis(np.indices((size, size), dtype=np.float32)[::-1], 0, -1) + _displacements(
            size, self.elastic * size, rng
        )
        x, y = cv2.split(cv2.transform(places, cv2.invertAffineTransform(matrix)).astype(np.float32))
        warped = cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, dtype=np.uint8)

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


def _displacements(side: int, deviation: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth displacements in pixels, float32 [side, side, 2], cubic between nodes a fifth of the side apart."""
    nodes = rng.normal(0, deviation, (5, 5, 2)).astype(np.float32)
    return np.asarray(cv2.resize(nodes, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _light(side: int, direction_rad: float, strength: float) -> NDArray[np.float32]:
    """Return gains [side, side, 1] that rise towards a direction, at most from 1 - strength to 1 + strength."""
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    across = ramp[None, :] * np.cos(direction_rad) + ramp[:, None] * np.sin(direction_rad)
    return np.asarray(1 + strength * across / np.sqrt(2), np.float32)[..., None]


def _erase(image: Crop, rng: np.random.Generator) -> Crop:
    """Cover a rectangle of 3 to 20 % of the area with one grey level (random erasing, Zhong et al., 2020)."""
    side = image.shape[0]
    area, ratio = rng.uniform(0.03, 0.2) * side * side, np.exp(rng.uniform(-1, 1))
    height, width = (min(side, max(1, int(length))) for length in (np.sqrt(area * ratio), np.sqrt(area / ratio)))
    y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
    image = image.copy()
    image[y : y + height, x : x + width] = rng.integers(0, 256)
    return image
