"""Options and results of an analysis, as frozen values; `service.output` turns results into documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from model_core.affect import Affect
from model_core.baseline import Change, Levels
from model_core.faces.geometry import Face
from model_core.faces.pose import Pose
from model_core.faces.quality import Quality

Smoothing: TypeAlias = Literal["none", "causal", "offline"]
Temporal: TypeAlias = Literal["auto", "off"]


@dataclass(frozen=True, eq=False)
class KnownBaseline:
    """Every face is compared with the same face at rest, which a picture showed."""

    face: "FaceResult"
    levels: Levels
    """Of that face."""


@dataclass(frozen=True)
class FirstSeconds:
    """Each track is compared with the mean of its own beginning, once that has passed."""

    length_s: float
    """Seconds from the track's first face on, positive."""


@dataclass(frozen=True)
class WholeTrack:
    """Each track is compared with its own low levels, which only its end tells; a sink does it by results' `levels`."""


Baseline: TypeAlias = KnownBaseline | FirstSeconds | WholeTrack


@dataclass(frozen=True)
class AnalysisOptions:
    """Options of an analysis: which faces it reports, and how it uses time."""

    max_faces: int = 16
    """Most faces of a frame: the largest of a picture; in a video the same people for as long as they are there."""
    min_confidence: float = 0.6
    """Lowest detection confidence, in [0, 1]."""
    temporal: Temporal = "auto"
    """`auto` uses all bundles, `off` only those that judge each frame by itself."""
    smoothing: Smoothing = "none"
    """Of a track's outputs over time: `causal` uses the past only, `offline` looks 0.45 s ahead as well."""
    baseline: Baseline | None = None
    """What faces are compared with, after the smoothing."""


@dataclass(frozen=True)
class FramePlace:
    """The place among its source's frames of one that comes by itself."""

    time_s: float
    """Seconds since the source began; they must not decrease."""
    frame: int
    """Index among all frames of the source, from 0."""


@dataclass(frozen=True)
class FaceResult:
    """One face of a frame, in pixels of the upright picture, and the track that it belongs to."""

    track_id: int
    face: Face
    pose: Pose
    """Of the head in the picture, from the face's landmarks."""
    affect: Affect
    quality: Quality
    changes: Mapping[str, Change] | None = None
    """Against the face's baseline, by name; None without one, or where it is not known yet."""
    levels: Levels | None = None
    """What is compared; None where no baseline was asked for."""


@dataclass(frozen=True)
class FrameResult:
    """One analysed frame, with or without faces."""

    time_s: float
    """The source's timestamp in seconds; 0 for a picture."""
    frame: int
    """Index among all frames of the source, from 0."""
    faces: tuple[FaceResult, ...]
    """By decreasing box area."""
    at_rest: FaceResult | None = None
    """The face that all faces are compared with, where a picture of it was given."""
