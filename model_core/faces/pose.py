"""The pose of a head: yaw, pitch and roll in degrees, estimated from the five landmarks of a face.

A face is first turned upright by its landmarks, as for its crop. Then yaw and what is left of roll are linear in the
distance of the nose from the middle of the eyes, and pitch is linear in the proportions of the face. So mirrored
landmarks have the mirrored pose exactly, and turning the picture turns the pose.

The coefficients were fitted to rendered faces, whose pose is known, by `python -m training.pose`. Five points say
little of pitch: a long nose and a lowered head look alike. The focal length of a picture is unknown, so perspective is
ignored, and the pose is relative to the line of sight through the face.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.faces.alignment import TEMPLATES, similarity_transform
from model_core.faces.geometry import Landmarks, Point

_CENTRED = TEMPLATES["arcface-1"] - TEMPLATES["arcface-1"].mean(axis=0)
_UPRIGHT = (_CENTRED + _CENTRED[[1, 0, 2, 4, 3]] * [-1, 1]) / 2
"""The template arcface-1 made symmetric, so that mirror images are turned alike: float64 [5, 2]."""


class Pose(NamedTuple):
    """Angles of a head in degrees, 0 where it faces the camera upright. Roll is applied first, then pitch, then yaw.

    So yaw and pitch are the direction in which the face looks, and roll turns the face about that direction.
    """

    yaw: float
    """Positive where the face looks towards the picture's right; in [-180, 180]."""
    pitch: float
    """Positive where it looks up; in [-90, 90]."""
    roll: float
    """Positive where it is tilted clockwise in the picture; in [-180, 180]."""

    def matrix(self) -> NDArray[np.float64]:
        """Return the rotation, float64 [3, 3], about axes to the picture's right, up, and towards the camera."""
        yaw, pitch, roll = (math.radians(angle) for angle in self)
        across, ahead = math.sin(yaw), math.cos(yaw)
        up, level = math.sin(pitch), math.cos(pitch)
        # The product of the turns about the vertical and the horizontal axis.
        direction = np.array(
            [[ahead, -across * up, across * level], [0, level, up], [-across, -ahead * up, ahead * level]]
        )
        return np.asarray(direction @ _clockwise(roll))


class Coefficients(NamedTuple):
    """A linear map from the measures of an upright face to its pose in degrees."""

    yaw: float
    """For each pixel of `UprightFace.nose_across`."""
    roll: float
    """For each pixel of `UprightFace.nose_across`."""
    pitch: NDArray[np.float64]
    """float64 [4]: a constant, and for each pixel of `nose_down`, `mouth_down` and `mouth_width`."""


INCLUDED = Coefficients(yaw=2.887, roll=0.181, pitch=np.array([-79.71, -6.015, 3.888, 1.784]))
"""Fitted by `python -m training.pose`; the model card has their errors."""


class UprightFace(NamedTuple):
    """Measures of a face that is turned upright, in pixels of the template arcface-1."""

    nose_across: float
    """The nose to the right of the middle of the eyes."""
    nose_down: float
    """The nose below the middle of the eyes."""
    mouth_down: float
    """The middle of the mouth's corners below the middle of the eyes."""
    mouth_width: float
    """Distance of the mouth's corners across."""
    turned: float
    """Clockwise angle in radians by which the face was turned in the picture."""

    def pose(self, coefficients: Coefficients = INCLUDED) -> Pose:
        """Return the estimated pose of the face in its picture."""
        proportions = [1.0, self.nose_down, self.mouth_down, self.mouth_width]
        upright = Pose(
            yaw=coefficients.yaw * self.nose_across,
            pitch=float(coefficients.pitch @ proportions),
            roll=coefficients.roll * self.nose_across,
        )
        return pose_of(_clockwise(self.turned) @ upright.matrix())

    def upright_pose(self, pose: Pose) -> Pose:
        """Return the pose that is left of the pose in the picture when the face is turned upright."""
        return pose_of(_clockwise(-self.turned) @ pose.matrix())


def head_pose(landmarks: Landmarks) -> Pose:
    """Return the estimated pose of a face. Raises ValueError if its landmarks coincide."""
    return upright_face(landmarks).pose()


def upright_face(landmarks: Landmarks) -> UprightFace:
    """Return what a pose is estimated from. Raises ValueError if the landmarks coincide."""
    points = landmarks.as_array()
    linear = similarity_transform(points, _UPRIGHT)[:, :2]
    left_eye, right_eye, nose, left_mouth, right_mouth = (Point(x, y) for x, y in (points @ linear.T).tolist())
    eyes = Point((left_eye.x + right_eye.x) / 2, (left_eye.y + right_eye.y) / 2)
    return UprightFace(
        nose_across=nose.x - eyes.x,
        nose_down=nose.y - eyes.y,
        mouth_down=(left_mouth.y + right_mouth.y) / 2 - eyes.y,
        mouth_width=right_mouth.x - left_mouth.x,
        turned=-math.atan2(linear[1, 0], linear[0, 0]),
    )


def pose_of(rotation: NDArray[np.float64]) -> Pose:
    """Return the pose whose matrix is `rotation`, float64 [3, 3]."""
    right, up, forward = rotation.T.tolist()
    yaw = math.atan2(forward[0], forward[2])
    pitch = math.asin(min(max(forward[1], -1.0), 1.0))
    roll = math.atan2(-right[1], up[1])
    return Pose(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))


def _clockwise(angle: float) -> NDArray[np.float64]:
    """Return the rotation, float64 [3, 3], that turns the picture clockwise by an angle in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
