"""Faces and frames of an answer, as frozen values.

Boxes and landmarks are pixels of the upright picture, from its top left corner; left and right are the picture's.
What no loaded bundle estimates is None. Fields that a newer service adds are passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self


class Point(NamedTuple):
    """A point in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A box in pixels; x, y is its top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Expression:
    """Calibrated probabilities over the bundle's labels, which sum to 1, and the most probable label."""

    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class ActionUnit:
    """An action unit: a probability that it is present, not its intensity."""

    probability: float
    active: bool
    """Whether the probability reaches the unit's threshold."""


@dataclass(frozen=True)
class Pose:
    """The head's pose in degrees; see the service's README for its signs."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Quality:
    """The size and sharpness of a face, and the reasons to doubt its estimates."""

    face_px: int
    """Shorter side of the box in pixels."""
    sharpness: float
    """0 to 1."""
    reliable: bool
    """True if there are no reasons."""
    reasons: tuple[str, ...]
    """Of `small`, `blurred`, `noisy`, `turned` and `outside`."""


@dataclass(frozen=True)
class Change:
    """The difference of a value to that of the same person at rest."""

    value: float
    rose: bool | None
    """Whether it rose by more than a face at rest does by itself; None where the bundle has no such limit."""


@dataclass(frozen=True)
class Face:
    """A face in a picture or in a frame of a video, and what is estimated from it."""

    box: Box
    detection_confidence: float
    """0 to 1."""
    pose: Pose
    quality: Quality
    valence: float | None
    """-1 to 1."""
    arousal: float | None
    """-1 to 1."""
    expression: Expression | None
    action_units: Mapping[str, ActionUnit] | None
    """By name: AU12."""
    eyes_closed: ActionUnit | None
    """Both eyes: FACS' AU43, or for a moment a blink."""
    change: Mapping[str, Change] | None
    """By name: valence, arousal, AU12; None without a baseline."""
    track_id: int | None
    """Id of the face over time; None in a picture."""
    landmarks: Mapping[str, Point] | None
    """By name: left_eye; None in a video."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the face of a JSON object."""
        quality = values["quality"]
        expression = values.get("expression")
        units = values.get("action_units")
        eyes = values.get("eyes_closed")
        change = values.get("change")
        landmarks = values.get("landmarks")
        return cls(
            box=Box(**picked(values["box"], "x", "y", "width", "height")),
            detection_confidence=values["detection_confidence"],
            pose=Pose(**picked(values["pose"], "yaw", "pitch", "roll")),
            quality=Quality(quality["face_px"], quality["sharpness"], quality["reliable"], tuple(quality["reasons"])),
            valence=values.get("valence"),
            arousal=values.get("arousal"),
            expression=expression and Expression(expression["label"], expression["probabilities"]),
            action_units=units
            and {name: ActionUnit(**picked(unit, "probability", "active")) for name, unit in units.items()},
            eyes_closed=eyes and ActionUnit(**picked(eyes, "probability", "active")),
            change=change and {name: Change(each["value"], each.get("rose")) for name, each in change.items()},
            track_id=values.get("track_id"),
            landmarks=landmarks and {name: Point(*point) for name, point in landmarks.items()},
        )


@dataclass(frozen=True)
class Frame:
    """An analysed frame of a video, with faces or without, the largest first."""

    time_s: float
    """The source's timestamp."""
    frame: int
    """Index of the frame in the source."""
    faces: tuple[Face, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the frame of a JSON object."""
        return cls(values["time_s"], values["frame"], tuple(Face.of(face) for face in values["faces"]))


def picked(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some of an object's values by their names."""
    return {name: values[name] for name in names}
