"""The people who are drawn: their faces differ in geometry, in colour and at rest."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Person:
    """The properties in which people differ: lengths in half sides of the picture, colours as RGB in [0, 255]."""

    head_width: float
    head_height: float
    eye_distance: float
    eye_width: float
    eye_height: float
    brow_height: float
    brow_slope: float
    brow_weight: float
    nose_length: float
    mouth_width: float
    mouth_y: float
    mouth_lift: float
    lip: float
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    background: tuple[float, float, float]


def person(rng: np.random.Generator) -> Person:
    """Somebody. Brows and mouth at rest differ as well, so a single frame does not tell a mood from a face."""
    tone, hair = rng.uniform(0.35, 1.0), rng.uniform(0.1, 0.7)
    grey = rng.uniform(60, 200)
    return Person(
        head_width=rng.uniform(0.58, 0.7),
        head_height=rng.uniform(0.86, 0.98),
        eye_distance=rng.uniform(0.28, 0.34),
        eye_width=rng.uniform(0.12, 0.155),
        eye_height=rng.uniform(0.055, 0.08),
        brow_height=rng.uniform(0.17, 0.23),
        brow_slope=rng.uniform(-0.03, 0.03),
        brow_weight=rng.uniform(0.035, 0.06),
        nose_length=rng.uniform(0.32, 0.4),
        mouth_width=rng.uniform(0.22, 0.29),
        mouth_y=rng.uniform(0.55, 0.62),
        mouth_lift=rng.uniform(-0.025, 0.025),
        lip=rng.uniform(0.035, 0.06),
        skin=(240 * tone, 196 * tone**1.2, 165 * tone**1.3),
        hair=(200 * hair**1.2, 150 * hair**1.4, 90 * hair**1.4),
        iris=tuple(rng.uniform(20, 120, 3)),
        background=tuple(grey * rng.uniform(0.7, 1.1, 3)),
    )
