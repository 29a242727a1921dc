"""What an analysis finds, as frozen values; rendering.py turns them into the contract's documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from model_core.affect import Affect
from model_core.faces.geometry import Face
from model_core.faces.quality import Quality
from service.media.decoding import VideoInfo


@dataclass(frozen=True)
class FaceOptions:
    """Which faces to analyse: at most `max_faces`, the largest, of at least `min_confidence` in [0, 1]."""

    max_faces: int = 16
    min_confidence: float = 0.6


Smoothing: TypeAlias = Literal["none", "causal", "offline"]
Temporal: TypeAlias = Literal["auto", "off"]


@dataclass(frozen=True)
class VideoOptions:
    """fps: analysed frames a second. The window runs from start_s to end_s (None: the end), both in seconds.

    temporal: `auto` reads all bundles, `off` those that judge each frame by itself. smoothing: of a track's outputs
    over time; `causal` uses the past only, `offline` the future as well.
    """

    faces: FaceOptions = FaceOptions()
    fps: float = 10.0
    start_s: float = 0.0
    end_s: float | None = None
    temporal: Temporal = "auto"
    smoothing: Smoothing = "none"


@dataclass(frozen=True)
class FaceAnalysis:
    """One face of a frame, in pixels of the upright picture."""

    face: Face
    affect: Affect
    quality: Quality


@dataclass(frozen=True)
class FrameAnalysis:
    """A picture and its faces by decreasing box area. timings_s: seconds by stage."""

    width: int
    height: int
    faces: tuple[FaceAnalysis, ...]
    timings_s: Mapping[str, float]


@dataclass(frozen=True)
class Sample:
    """One face at one time of a video. frame: the source's frame index; time_s: the source's timestamp."""

    time_s: float
    frame: int
    analysis: FaceAnalysis


@dataclass(frozen=True)
class VideoAnalysis:
    """tracks: samples in time order by track id. truncated: the file ended early because it is damaged."""

    info: VideoInfo
    frames_analyzed: int
    truncated: bool
    tracks: Mapping[int, tuple[Sample, ...]]
    timings_s: Mapping[str, float]
