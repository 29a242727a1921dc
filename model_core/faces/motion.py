"""Motion of faces between frames: a Kalman filter at constant velocity for each coordinate of a box.

Lengths are relative to the face: a velocity is in sides of the box a second, where the side is the root of its area.
The noise of a prediction grows with time and not with the number of frames, so the frame rate does not matter.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

from model_core.faces.geometry import Box

PLACE_NOISE = 0.05
"""Standard deviation of a detected box's centre, in sides."""

SIZE_NOISE = 0.08
"""Standard deviation of the logarithm of a detected box's side."""

FIRST_SPEED = 3.0
"""Standard deviation of the velocity of a face that was seen once, in sides a second."""

FIRST_GROWTH = 0.5
"""Standard deviation of the growth rate, the change of the logarithm a second, of a face that was seen once."""

ACCELERATION = 1.5
"""Variance that a velocity gains each second, in squared sides a second."""

GROWTH_CHANGE = 0.5
"""Variance that a growth rate gains each second."""


class Place(NamedTuple):
    """A box as the tracker compares it."""

    x: float
    """Centre in pixels."""

    y: float
    """Centre in pixels."""

    log_side: float
    """Natural logarithm of the root of the box's area in pixels; 0 for boxes smaller than a pixel."""

    @classmethod
    def of(cls, box: Box) -> Self:
        """Return the place of a box."""
        return cls(box.x + box.width / 2, box.y + box.height / 2, math.log(max(box.area, 1.0)) / 2)


@dataclass
class ConstantVelocity:
    """A coordinate and its rate of change, as a Kalman filter estimates them (Bar-Shalom et al. 2001, section 6.2.2).

    The rate is a random walk (white-noise acceleration), so predictions over two steps equal one over their sum.
    """

    value: float
    value_variance: float

    rate_variance: float
    """Variance of the rate of change, which is 0 at first, in squared units a second."""

    rate: float = 0.0
    covariance: float = 0.0
    """Covariance of value and rate."""

    def predict(self, step_s: float, intensity: float) -> None:
        """Advance by a step in seconds; `intensity` is the variance that the rate gains each second."""
        self.value += step_s * self.rate
        self.value_variance += step_s * (2 * self.covariance + step_s * self.rate_variance) + intensity * step_s**3 / 3
        self.covariance += step_s * self.rate_variance + intensity * step_s**2 / 2
        self.rate_variance += intensity * step_s

    def correct(self, measured: float, variance: float) -> None:
        """Take in a measurement of the value, with the variance of its error."""
        total = self.value_variance + variance
        error = measured - self.value
        self.value += self.value_variance / total * error
        self.rate += self.covariance / total * error
        self.rate_variance -= self.covariance**2 / total
        self.covariance *= variance / total
        self.value_variance *= variance / total


class FaceMotion:
    """The place of one face, which is predicted from frame to frame and corrected where the face is seen."""

    def __init__(self, place: Place) -> None:
        """Take the place where the face is first seen."""
        side = math.exp(place.log_side)
        self._x, self._y = (
            ConstantVelocity(centre, (PLACE_NOISE * side) ** 2, (FIRST_SPEED * side) ** 2) for centre in place[:2]
        )
        self._log_side = ConstantVelocity(place.log_side, SIZE_NOISE**2, FIRST_GROWTH**2)

    @property
    def place(self) -> Place:
        """The place at the time of the last prediction or correction."""
        return Place(self._x.value, self._y.value, self._log_side.value)

    @property
    def uncertainty(self) -> Place:
        """Variances of where a detected box will be: of x and y in squared sides, and of the logarithm of the side."""
        area = math.exp(2 * self._log_side.value)
        return Place(
            self._x.value_variance / area + PLACE_NOISE**2,
            self._y.value_variance / area + PLACE_NOISE**2,
            self._log_side.value_variance + SIZE_NOISE**2,
        )

    def predict(self, step_s: float) -> None:
        """Advance by a step in seconds."""
        area = math.exp(2 * self._log_side.value)
        self._x.predict(step_s, ACCELERATION * area)
        self._y.predict(step_s, ACCELERATION * area)
        self._log_side.predict(step_s, GROWTH_CHANGE)

    def correct(self, place: Place) -> None:
        """Take in the place where the face is seen now."""
        variance = PLACE_NOISE**2 * math.exp(2 * place.log_side)
        self._x.correct(place.x, variance)
        self._y.correct(place.y, variance)
        self._log_side.correct(place.log_side, SIZE_NOISE**2)

    def shift(self, dx: float, dy: float) -> None:
        """Move by pixels with the camera; the face's own velocity is not changed."""
        self._x.value += dx
        self._y.value += dy

    def stop(self) -> None:
        """Forget the velocity and the growth rate."""
        for coordinate in (self._x, self._y, self._log_side):
            coordinate.rate = 0.0
