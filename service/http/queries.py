"""Query parameters as pydantic models."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model_core.baseline import LOW_QUANTILE
from model_core.inference.predictor import BundleEnsemble
from service.analysis.results import AnalysisOptions, Baseline, FirstSeconds, Smoothing, Temporal, WholeTrack
from service.errors import InvalidParameter
from service.media.videos import Window
from service.output.annotation.video import AnnotationOptions
from service.output.csv import Columns

VIDEO_FPS = 10.0
"""Analysed frames a second where no bundle has memory: expressions last for longer than a tenth of a second."""


LONGEST_BASELINE_S = 60.0
"""Longest beginning of a track, in seconds, that a request may take for its baseline."""


class Query(BaseModel):
    """Query parameters; one that is not listed is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FrameQuery(Query):
    """Parameters of POST /analyze/frame."""

    max_faces: int = Field(
        16, ge=1, le=64, description="at most this many faces: the largest, and in a video the same people while there"
    )
    min_confidence: float = Field(0.6, ge=0, le=1, description="lowest detection confidence")

    def options(self) -> AnalysisOptions:
        """Return the options of the analysis."""
        return AnalysisOptions(self.max_faces, self.min_confidence)


class VideoQuery(FrameQuery):
    """Parameters of POST /analyze/video."""

    fps: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="analysed frames a second, at most the source's; if absent, the rate that bundles with memory were "
        f"evaluated with where they answer, else {VIDEO_FPS:g}",
    )
    start_s: float = Field(0.0, ge=0, description="start of the analysed window, in seconds")
    end_s: float | None = Field(None, gt=0, description="end of the window, in seconds; the video's end if absent")
    temporal: Temporal = Field(
        "auto",
        description="`auto` uses every bundle; `off` only those without memory, so that a task without one is absent",
    )
    smoothing: Smoothing = Field(
        "none",
        description="smoothing of each track over time: `causal` averages the past, `offline` the next 0.45 s as well",
    )
    columns: Columns | None = Field(
        None,
        description="columns of a CSV answer, else refused: `native` (default), `openface` (OpenFace 2.2 names) "
        "or `fex` (py-feat's)",
    )
    baseline_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_BASELINE_S,
        description="seconds from the first face of each track on in which the person is at rest; later faces of the "
        "track carry `change` against the mean of these, which carry none themselves. Not with the columns `openface` "
        "and `fex`",
    )
    baseline: Literal["auto"] | None = Field(
        None,
        description="`auto`: each face carries `change` against its whole track: for each unit the faces in which it "
        f"is low, around the {LOW_QUANTILE:g} quantile, and for valence and arousal the median. That is a guess of "
        "rest, so more rises are false alarms than with `baseline_s`. Only for application/json, since a stream cannot "
        "know it; not together with `baseline_s`",
    )

    boxes: Literal["on", "off"] | None = Field(
        None,
        description="of an annotated video (a job with `Accept: video/mp4` or `video/webm`), else refused: `on` "
        "(default) draws boxes, ids, expressions, valence and arousal, and active units; `off` leaves them out",
    )
    blur: Literal["faces", "none"] | None = Field(
        None,
        description="of an annotated video, else refused: `faces` makes every face one plain colour; `none` is the "
        "default",
    )

    def options(self) -> AnalysisOptions:
        """Return the options of the analysis. Raises InvalidParameter for two baselines at once."""
        return AnalysisOptions(
            self.max_faces, self.min_confidence, self.temporal, self.smoothing, self._baseline_option()
        )

    def _baseline_option(self) -> Baseline | None:
        if self.baseline is None:
            return None if self.baseline_s is None else FirstSeconds(self.baseline_s)
        if self.baseline_s is not None:
            raise InvalidParameter("baseline_s: give either the seconds of a baseline or `baseline=auto`, not both")
        return WholeTrack()

    def annotation(self, media_type: str) -> AnnotationOptions:
        """Return what is drawn on a video of one of `encoding.FORMS`.

        Raises InvalidParameter for columns and baselines, which are not drawn, and for what nothing would come of.
        """
        for name in ("columns", "baseline_s", "baseline"):
            if getattr(self, name) is not None:
                raise InvalidParameter(f"{name}: has no place in answers of type {media_type}")
        annotation = AnnotationOptions(media_type, draws=self.boxes != "off", hides_faces=self.blur == "faces")
        if not annotation.draws:  # nothing is analysed then
            for name in ("fps", "max_faces", "temporal", "smoothing"):
                if name in self.model_fields_set:
                    raise InvalidParameter(f"{name}: has no effect with `boxes=off`")
        return annotation

    def window(self, ensemble: BundleEnsemble) -> Window:
        """Return the requested part of the video. Raises InvalidParameter for an empty one."""
        return Window(self.fps or video_fps(ensemble), self.start_s, self.end_s)


class LiveQuery(FrameQuery):
    """Parameters of GET /live."""

    temporal: Temporal = Field(
        "auto",
        description="`auto` uses every bundle; `off` only those without memory, so that a task without one is absent",
    )
    smoothing: Literal["none", "causal"] = Field(
        "none", description="smoothing of each track over time: `causal` averages the past"
    )

    def options(self) -> AnalysisOptions:
        """Return the options of the analysis."""
        return AnalysisOptions(self.max_faces, self.min_confidence, self.temporal, self.smoothing)


def video_fps(ensemble: BundleEnsemble) -> float:
    """Return the analysed frames a second of a video where a request does not say."""
    return ensemble.frame_rate or VIDEO_FPS
