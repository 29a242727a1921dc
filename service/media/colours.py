"""Brings the pixels of any picture to 8-bit sRGB as viewers show them: profiles applied, transparency over white."""

import io
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageCms

from model_core.faces.geometry import Frame

_STRIP_ROWS = 32
"""Rows that are converted at once, which bounds memory and stays in a processor's cache."""

MAX_PROFILE_BYTES = 4 * 2**20
"""The profiles of printing presses, the largest in use, have one or two megabytes."""

_UNSEEN = 2
"""Difference in 8-bit levels up to which a profile counts as sRGB: its writer's rounding."""

_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_BASE_MODES: Final = {"1": "L", "L": "L", "LA": "L", "I;16": "L", "CMYK": "CMYK"}
"""Mode of a picture -> mode of its colours without transparency, where that is not RGB."""


def to_srgb(pixels: Image.Image | Frame, profile: bytes) -> Frame:
    """Return the pixels of a picture as uint8 [H, W, 3] sRGB; the same array where they are that already.

    `pixels` is a loaded Pillow picture, or uint8 [H, W, 3 or 4] RGB or RGBA; `profile` is its ICC profile, or empty. A
    profile that is damaged, of other channels or sRGB anyway changes nothing. 16-bit samples keep their upper 8 bits.
    Transparent pixels are blended over white.
    """
    mode = pixels.mode if isinstance(pixels, Image.Image) else "RGB"
    base = _BASE_MODES.get(mode, "RGB")
    transform = _transform_to_srgb(profile, base) if 0 < len(profile) <= MAX_PROFILE_BYTES else None
    if isinstance(pixels, np.ndarray) and pixels.shape[2] == 3 and transform is None:
        return pixels
    width, height = pixels.size if isinstance(pixels, Image.Image) else pixels.shape[1::-1]
    result = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, height)
        if isinstance(pixels, Image.Image):
            strip = pixels.crop((0, top, width, bottom))
        else:
            strip = Image.fromarray(pixels[top:bottom])
        result[top:bottom] = _strip_to_srgb(strip, base, transform)
    return result


def over_white(rgba: Frame) -> Frame:
    """Return RGBA pixels, uint8 [H, W, 4], as they look on a white page, uint8 [H, W, 3]."""
    result = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _STRIP_ROWS):
        strip = rgba[top : top + _STRIP_ROWS]
        result[top : top + _STRIP_ROWS] = _strip_over_white(strip[..., :3], strip[..., 3])
    return result


def _strip_to_srgb(strip: Image.Image, base: str, transform: ImageCms.ImageCmsTransform | None) -> Frame:
    """Return a strip of a picture as uint8 [H, W, 3] sRGB; `base` is the mode of its colours and of `transform`."""
    if strip.mode == "I;16":
        strip = _upper_bits(strip)
    elif strip.mode == "P" and strip.has_transparency_data:  # of which Pillow would warn below
        strip = strip.convert("RGBA")
    colours = strip.convert("RGB") if transform is None else transform.apply(strip.convert(base))
    pixels = np.asarray(colours)
    if not strip.has_transparency_data:
        return pixels
    return _strip_over_white(pixels, np.asarray(strip.convert("RGBA").getchannel("A")))


def _strip_over_white(pixels: Frame, alpha: Frame) -> Frame:
    """Return a strip blended over white: white less the distance to white weighted by alpha, all in 8 bits."""
    distance = cv2.multiply(255 - pixels, cv2.merge([alpha] * 3), scale=1 / 255)
    return 255 - np.asarray(distance, dtype=np.uint8)


def _upper_bits(strip: Image.Image) -> Image.Image:
    """Return a picture of 16-bit grey in 8 bits, with an alpha channel where it has a transparent level."""
    levels = np.asarray(strip)
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    if "transparency" in strip.info:
        grey.putalpha(Image.fromarray(np.where(levels == strip.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


@lru_cache(maxsize=16)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what converts colours of `mode` (L, RGB, CMYK) by an ICC profile, or None if they stay as they are."""
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "CMYK":
        return transform
    probe = _probe().convert(mode)
    change = np.asarray(transform.apply(probe), dtype=np.int16) - np.asarray(probe.convert("RGB"))
    return transform if np.abs(change).max() > _UNSEEN else None


def _probe() -> Image.Image:
    """Return a picture of 9 x 9 x 9 colours all over RGB; in grey it has at least as many levels."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3))
