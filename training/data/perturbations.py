"""Degradations of crops as they occur outside the laboratory, each at five strengths, for measuring robustness.

Each is a pure function of a crop and a generator. Lengths in pixels are those of a crop of 112 pixels, and scale with
its size. Levels are listed from weak to strong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATE_SIZE, TEMPLATES
from model_core.faces.geometry import Crop

STRENGTHS = (1, 2, 3, 4, 5)

BOX_IN_EYE_DISTANCES = 2.3
"""Shorter side of a detector's box over the distance of the eyes: yuface's median on FER+ (middle half: 2.2 to 2.4)."""

_GREY = 128

Change = Callable[[Crop, float, np.random.Generator], Crop]


@dataclass(frozen=True)
class Perturbation:
    """A change of a crop, at strengths 1 to 5."""

    change: Change
    levels: tuple[float, float, float, float, float]
    """The physical level of each strength, from weak to strong."""
    unit: str
    """Unit of the levels."""
    softens: bool = False
    """True where the change takes sharpness away."""

    def __call__(self, image: Crop, strength: int, rng: np.random.Generator) -> Crop:
        """Return a changed copy of a crop, uint8 [S, S, 3] RGB. Raises ValueError for a strength outside 1 to 5."""
        if strength not in STRENGTHS:
            raise ValueError(f"a strength is 1 to 5, not {strength}")
        return self.change(image, self.levels[strength - 1], rng)


def perturbations(alignment: str) -> Mapping[str, Perturbation]:
    """Return the registry for crops with this alignment, a key of TEMPLATES: it places the eyes and the mouth."""
    points = (TEMPLATES[alignment] + 0.5) / TEMPLATE_SIZE
    eye_distance = float(points[1, 0] - points[0, 0])
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    bars = (0.2, 0.4, 0.6, 0.8, 1.0)
    return {
        "resolution": Perturbation(
            partial(_resolution, face_share=eye_distance * BOX_IN_EYE_DISTANCES),
            (48, 32, 24, 20, 16),
            "shorter side of the face, px",
            softens=True,
        ),
        "blur": Perturbation(_blur, (1, 1.5, 2, 3, 4), "Gaussian sigma, px of 112", softens=True),
        "noise": Perturbation(_noise, (5, 10, 20, 30, 45), "Gaussian sigma, grey levels of 255"),
        "jpeg": Perturbation(_jpeg, (50, 30, 20, 10, 5), "JPEG quality"),
        "darker": Perturbation(_gain, (0.8, 0.6, 0.4, 0.3, 0.2), "factor on pixel values"),
        "brighter": Perturbation(_gain, (1.25, 1.5, 1.75, 2.0, 2.5), "factor on pixel values"),
        "contrast": Perturbation(_contrast, (0.8, 0.6, 0.4, 0.25, 0.15), "factor on contrast"),
        "colour_cast": Perturbation(_warm, (0.1, 0.2, 0.3, 0.4, 0.5), "red gained and blue lost, share"),
        "occlusion_eyes": Perturbation(partial(_bar, centre=eyes, unit=eye_distance), bars, "height, eye distances"),
        "occlusion_mouth": Perturbation(partial(_bar, centre=mouth, unit=eye_distance), bars, "height, eye distances"),
        "occlusion_random": Perturbation(_square, (0.05, 0.1, 0.2, 0.3, 0.4), "covered share of the crop"),
        "shift": Perturbation(_shift, (0.03, 0.06, 0.09, 0.12, 0.15), "distance, share of the side"),
        "rotation": Perturbation(_rotation, (5, 10, 15, 20, 30), "angle, degrees"),
        "scale": Perturbation(_scale, (0.05, 0.1, 0.15, 0.2, 0.3), "larger or smaller by, share"),
    }


def _resolution(image: Crop, face_px: float, _: np.random.Generator, *, face_share: float) -> Crop:
    """Return the crop as if the detected box of the face, `face_share` of the crop wide, had been `face_px` wide.

    A picture that was no larger hardly changes: FER+'s faces have about 37 pixels.
    """
    return coarsened(image, min(image.shape[0], max(1, round(face_px / face_share))))


def coarsened(image: Crop, side: int) -> Crop:
    """Return the crop as if it had been `side` pixels wide in its picture and enlarged by alignment."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[:2], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _blur(image: Crop, sigma_px: float, _: np.random.Generator) -> Crop:
    """Blur with a Gaussian, like defocus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px * image.shape[0] / TEMPLATE_SIZE), dtype=np.uint8)


def _noise(image: Crop, sigma: float, rng: np.random.Generator) -> Crop:
    """Add luminance noise, one draw a pixel for all channels: grey and colour networks see equally much of it."""
    return _to_pixels(image + sigma * rng.standard_normal(image.shape[:2])[..., None])


def _jpeg(image: Crop, quality: float, _: np.random.Generator) -> Crop:
    """Compress the crop as JPEG."""
    return compressed(image, int(quality))


def compressed(image: Crop, quality: int) -> Crop:
    """Return an RGB crop as a JPEG of this quality, 0 to 100, preserves it."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1].copy()


def _gain(image: Crop, factor: float, _: np.random.Generator) -> Crop:
    """Change the exposure; values above white are clipped."""
    return _to_pixels(image * factor)


def _contrast(image: Crop, factor: float, _: np.random.Generator) -> Crop:
    """Move values towards the middle grey, like haze."""
    return _to_pixels((image.astype(np.float64) - _GREY) * factor + _GREY)


def _warm(image: Crop, share: float, _: np.random.Generator) -> Crop:
    """Add red and remove blue, like lamp light; a grey network sees only the change of luminance."""
    return _to_pixels(image * np.array([1 + share, 1, 1 - share]))


def _bar(image: Crop, height: float, _: np.random.Generator, *, centre: NDArray[np.float64], unit: float) -> Crop:
    """Cover a point with a grey bar, two eye distances wide and `height` eye distances high.

    `centre` and `unit`, the eye distance, are shares of the side.

    Over the eyes the lowest strength covers the pupils only, the highest the brows as well; over the mouth the lowest
    covers the line of the lips, the highest reaches from the nose to the chin.
    """
    side = image.shape[0]
    half = np.array([unit, height * unit / 2])
    (x0, y0), (x1, y1) = ((centre + sign * half) * side for sign in (-1, 1))
    return _covered(image, round(x0), round(y0), round(x1), round(y1))


def _square(image: Crop, share: float, rng: np.random.Generator) -> Crop:
    """Cover a square of this share of the area at a random place with grey."""
    side = image.shape[0]
    length = round(side * np.sqrt(share))
    x, y = (int(value) for value in rng.uniform(0, 1, 2) * (side - length + 1))
    return _covered(image, x, y, x + length, y + length)


def _covered(image: Crop, x0: int, y0: int, x1: int, y1: int) -> Crop:
    image = image.copy()
    image[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = _GREY
    return image


def _shift(image: Crop, share: float, rng: np.random.Generator) -> Crop:
    """Shift by this share of the side in a random direction, as when landmarks are misplaced."""
    angle = rng.uniform(0, 2 * np.pi)
    return _warped(image, shift=[share * image.shape[0] * part for part in (np.cos(angle), np.sin(angle))])


def _rotation(image: Crop, angle_deg: float, rng: np.random.Generator) -> Crop:
    """Rotate to a random side, as when alignment leaves a head tilted."""
    return _warped(image, angle_deg=angle_deg * rng.choice([-1, 1]))


def _scale(image: Crop, share: float, rng: np.random.Generator) -> Crop:
    """Enlarge or reduce by this share, as when a face is cropped too tightly or too widely."""
    return _warped(image, scale=(1 + share) ** int(rng.choice([-1, 1])))


def _warped(
    image: Crop,
    *,
    angle_deg: float = 0.0,
    scale: float = 1.0,
    shift: Sequence[float] = (0, 0),
) -> Crop:
    """Warp about the middle; pixels from outside are replicated from the edge, as in alignment."""
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle_deg, scale)
    matrix[:, 2] += np.array(shift)
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def _to_pixels(values: NDArray[np.floating]) -> Crop:
    return values.round().clip(0, 255).astype(np.uint8)
