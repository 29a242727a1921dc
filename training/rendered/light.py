"""The light on a portrait and its background, and how a camera turns light into pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.rendered.pieces import linear, srgb

_SKY_ROWS = 32


def directions(rows: int) -> NDArray[np.float64]:
    """Return the directions of an equirectangular map's pixels, float64 [rows, 2 rows, 3], as Mitsuba reads it.

    The first row looks up; the middle column looks along +z, and columns to the right turn towards -x.
    """
    polar = (np.arange(rows) + 0.5) / rows * np.pi
    around = (np.arange(2 * rows) + 0.5) / (2 * rows) * 2 * np.pi
    theta, phi = np.meshgrid(polar, around, indexing="ij")
    return np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), -np.sin(theta) * np.cos(phi)], axis=2)


def draw_sky(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the light from all directions, float32 [32, 64, 3] in linear RGB: soft surroundings and one to three lamps.

    It is scaled so that white paper that faces +z has a brightness of 1.
    """
    towards = directions(_SKY_ROWS)
    height = towards[:, :, 1:2]
    sky = rng.uniform(0.15, 0.8) * (1 + rng.uniform(0, 0.6) * height) * _tint(rng, 0.08)
    for lamp in range(rng.integers(1, 4)):
        spread_deg = rng.uniform(6, 30)
        # The first lamp is before the face, the others may be anywhere.
        azimuth = np.radians(rng.uniform(-75, 75) if lamp == 0 else rng.uniform(-180, 180))
        elevation = np.radians(rng.uniform(-5, 65))
        centre = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
        angle = np.degrees(np.arccos(np.clip(towards @ centre, -1, 1)))
        power = rng.uniform(0.3, 1.4) * (30 / spread_deg) ** 2
        sky = sky + (power * np.exp(-0.5 * (angle / spread_deg) ** 2))[:, :, None] * _tint(rng, 0.12)
    return (sky / facing_light(sky)).astype(np.float32)


def facing_light(sky: NDArray[np.floating]) -> float:
    """Return the mean brightness of white paper that faces +z under a sky [rows, 2 rows, 3]."""
    towards = directions(len(sky))
    solid = np.sqrt(np.maximum(1 - towards[:, :, 1] ** 2, 0)) * (np.pi / len(sky)) ** 2
    weight = np.maximum(towards[:, :, 2], 0) * solid / np.pi
    return float((sky.mean(axis=2) * weight).sum())


def draw_background(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a background out of focus, float32 [size, size, 3] in sRGB: plain, a gradient, or blurred shapes."""
    base = rng.uniform(0.05, 0.95) + rng.normal(0, 0.07, 3)
    picture = np.broadcast_to(base, (size, size, 3)).astype(np.float32).copy()
    kind = rng.choice(3, p=[0.3, 0.2, 0.5])
    if kind == 1:
        slope = np.linspace(-1, 1, size) * rng.uniform(0.05, 0.3)
        picture += (slope[:, None] if rng.random() < 0.5 else slope[None, :])[:, :, None].astype(np.float32)
    elif kind == 2:
        for _ in range(rng.integers(4, 24)):
            corner = rng.integers(-size // 4, size, 2)
            extent = rng.integers(size // 16, size // 2, 2)
            colour = tuple(float(value) for value in np.clip(base + rng.normal(0, 0.2) + rng.normal(0, 0.06, 3), 0, 1))
            end = corner + extent
            cv2.rectangle(picture, (int(corner[0]), int(corner[1])), (int(end[0]), int(end[1])), colour, -1)
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), size * rng.uniform(0.01, 0.05)), dtype=np.float32)
    return picture.clip(0, 1)


@dataclass(frozen=True)
class Film:
    """The response of a camera to light."""

    exposure: float
    balance: NDArray[np.float64]
    """float64 [3], factors of red, green and blue."""
    contrast: float
    softness_px: float
    noise: float
    """Standard deviation in sRGB values, of which white is 1."""


def draw_film(gain: float, rng: np.random.Generator) -> Film:
    """Draw a camera whose usual exposure is `gain`."""
    return Film(
        exposure=float(gain * rng.lognormal(0, 0.25)),
        balance=_tint(rng, 0.04),
        contrast=float(rng.uniform(0.9, 1.1)),
        softness_px=float(rng.uniform(0.3, 0.8)),
        noise=float(rng.uniform(0.002, 0.015)),
    )


def develop(
    light: NDArray[np.float32], background: NDArray[np.float32], film: Film, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a picture, uint8 [size, size, 3] in sRGB, of light and coverage [size, size, 4] before a background.

    Highlights roll off, as they do on film.
    """
    exposed = light[:, :, :3] * film.exposure * film.balance
    knee = 0.7
    over = np.maximum(exposed - knee, 0)
    rolled = np.minimum(exposed, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    alpha = np.clip(light[:, :, 3:], 0, 1)
    sharp = srgb(rolled + linear(background) * (1 - alpha))
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), film.softness_px), dtype=np.float64)
    picture = (soft - 0.5) * film.contrast + 0.5 + rng.normal(0, film.noise, soft.shape)
    return np.asarray((picture.clip(0, 1) * 255).round(), dtype=np.uint8)


def _tint(rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """Return a colour [3] around white, warmer or cooler."""
    warmth = rng.normal(0, spread)
    return np.array([1 + warmth, 1 + rng.normal(0, spread / 5), 1 - warmth]).clip(0.4, 1.6)
