"""The contract's documents as pydantic models: what answers look like."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from model_core.affect import Reference
from model_core.bundles.manifest import Validation
from model_core.faces.quality import Reason

Probability = Annotated[float, Field(ge=0, le=1)]
Affective = Annotated[float, Field(ge=-1, le=1)]
PointXY = Annotated[tuple[float, float], Field(description="x and y in pixels of the upright image")]


class BoxOut(BaseModel):
    """Pixels of the upright image; x, y is the top left corner."""

    x: float
    y: float
    width: float
    height: float


class LandmarksOut(BaseModel):
    """Left and right are the image's."""

    left_eye: PointXY
    right_eye: PointXY
    nose: PointXY
    left_mouth: PointXY
    right_mouth: PointXY


class ExpressionOut(BaseModel):
    """Calibrated probabilities over the bundle's labels; they sum to 1."""

    label: str = Field(examples=["happiness"])
    probabilities: dict[str, Probability] = Field(examples=[{"neutral": 0.05, "happiness": 0.95}])


class ActionUnitOut(BaseModel):
    """Probability that the unit is present (not its intensity), and whether it reaches the unit's threshold."""

    probability: Probability
    active: bool


class AffectOut(BaseModel):
    """Estimates for one face; a task that no loaded bundle covers is absent."""

    valence: Affective | None = None
    arousal: Affective | None = None
    expression: ExpressionOut | None = None
    action_units: dict[str, ActionUnitOut] | None = None
    eyes_closed: ActionUnitOut | None = Field(
        None,
        description="Both eyes, which FACS calls AU43, or for a moment a blink, AU45. Downcast eyes may look closed.",
    )


class PoseOut(BaseModel):
    """The head's pose in degrees, estimated from five landmarks; 0 where the face looks at the camera upright.

    The picture's focal length is unknown, so perspective is ignored.
    """

    yaw: float = Field(ge=-180, le=180, description="Positive where the face looks towards the picture's right.")
    pitch: float = Field(ge=-90, le=90, description="Positive where it looks up. The least certain of the three.")
    roll: float = Field(ge=-180, le=180, description="Positive where it is tilted clockwise in the picture.")


class QualityOut(BaseModel):
    """The size and sharpness of a face, and the reasons to doubt its estimates."""

    face_px: int = Field(ge=0, description="Shorter side of the box in pixels.")
    sharpness: Probability
    reliable: bool = Field(description="True if there are no reasons to doubt the estimates.")
    reasons: list[Reason] = Field(
        description="`small`: below 24 pixels; `blurred`: little detail; `noisy`: noise above 12 grey levels; "
        "`turned`: yaw beyond 40 or pitch beyond 25 degrees, or it could not be turned upright; `outside`: more than "
        "0.4 of its box is outside of the picture. A covered face is not recognised as such."
    )


class ChangeOut(BaseModel):
    """The difference to the same face at rest."""

    value: float = Field(
        ge=-2,
        le=2,
        description="difference of valence or arousal; of a unit the estimated difference of its intensities, from -1 "
        "to 1, where a bundle has the task `unit_changes`, else the difference of its calibrated probabilities",
    )
    rose: bool | None = Field(
        None,
        description="true if it rose by more than the same face at rest does by itself at a false alarm rate of 5 %; "
        "a unit is judged by its difference alone, however probable it is. Absent where the bundle has no such limit: "
        "see `calibration.change_limits` at `/models`",
    )


class LocatedOut(AffectOut):
    """A face's place and its estimates."""

    box: BoxOut
    detection_confidence: Probability
    pose: PoseOut
    quality: QualityOut
    change: dict[str, ChangeOut] | None = Field(
        None,
        description="changes of valence, arousal and each action unit against the person's own baseline; absent "
        "without a baseline, and in the seconds of a track that are its baseline",
        examples=[{"valence": {"value": 0.41, "rose": True}, "AU12": {"value": 0.55, "rose": True}}],
    )


class FaceOut(LocatedOut):
    """A face in a picture."""

    landmarks: LandmarksOut


class UnitInfo(BaseModel):
    """FACS name, the probability from which the unit counts as active, and how far it can be trusted, where known."""

    name: str = Field(examples=["lip corner puller"])
    threshold: Probability
    validated: Validation | None = Field(
        None,
        description="Faces that bear the unit out: `rendered`, of known intensity; `teacher`, read by another model; "
        "or `none`: do not rely on it.",
    )
    r: float | None = Field(None, ge=-1, le=1, description="Correlation with the targets of those faces.")
    auroc: Probability | None = Field(None, description="AUROC on those faces.")
    reference: Reference | None = Field(None, description="Origin of its training targets, where units differ in it.")
    change_r: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Correlation of its `change` with that of its intensity, on rendered faces beside the same people "
        "at rest.",
    )
    change_auroc: Probability | None = Field(None, description="AUROC of its `change` on those faces.")


class TaskInfo(BaseModel):
    """The bundle that answers a task. reference: learned from human annotation, derived labels, or rendered faces."""

    bundle: str
    version: str
    sha256: str
    reference: Reference
    calibrated: bool
    units: dict[str, UnitInfo] | None = None
    threshold: Probability | None = Field(
        None, description="Of `eyes_closed`: the probability from which it is active."
    )


class ModelInfo(BaseModel):
    """The device, the detector and the bundles that computed an answer."""

    device: str = Field(examples=["cpu"])
    engine: str = Field(examples=["openvino"])
    precision: str = Field(examples=["float32"])
    detector: str = Field(examples=["yuface-2023.5.1"])
    tasks: dict[str, TaskInfo]


class ImageInfo(BaseModel):
    """Size of the upright image in pixels."""

    width: int
    height: int


Timings = Annotated[
    dict[str, float], Field(description="milliseconds by stage", examples=[{"decode": 6.1, "total": 33}])
]


class FrameResponse(BaseModel):
    """Answer of POST /analyze/frame; faces by decreasing box area."""

    request_id: str
    model: ModelInfo
    image: ImageInfo
    faces: list[FaceOut]
    baseline: FaceOut | None = Field(
        None,
        description="The face of the second picture, if one was sent, as it is by itself: whether it is reliable, and "
        "at rest.",
    )
    timings_ms: Timings


class VideoOut(BaseModel):
    """The video: size in pixels as players show it, its place in time, and how much of it was analysed."""

    width: int
    height: int
    fps: float | None = Field(
        None, description="the source's frames a second on average; absent where it does not tell"
    )
    start_s: float = Field(description="timestamp of its first frame in seconds, on the clock that its streams share")
    duration_s: float | None = Field(None, description="seconds from there to the end; absent where it does not tell")
    frames_analyzed: int
    truncated: bool = Field(description="the file ends early because it is cut off or damaged")


class SampleOut(LocatedOut):
    """A tracked face at one time: the source's timestamp in seconds, and its frame index."""

    time_s: float
    frame: int


class Spread(BaseModel):
    """Over a track's samples."""

    mean: float
    std: float
    min: float
    max: float


class TrackSummary(BaseModel):
    """A track in numbers: shares are of its samples, 0 to 1."""

    valence: Spread | None = None
    arousal: Spread | None = None
    expression_share: dict[str, Probability] | None = None
    active_share: dict[str, Probability] | None = None
    eyes_closed_share: Probability | None = None
    compared: int | None = Field(
        None,
        description="Only with a baseline: samples that carry `change`. It is 0 where the track ends before its "
        "`baseline_s` are over.",
    )
    rose_share: dict[str, Probability] | None = Field(
        None, description="of the compared samples, the share in which valence, arousal or a unit rose"
    )


class AnalyzedFrame(BaseModel):
    """An analysed frame and the tracks that have a face in it, so that no face differs from not analysed."""

    time_s: float
    frame: int
    faces: list[int] = Field(description="ids of the tracks, by decreasing box area")


class TrackOut(BaseModel):
    """One face over time."""

    track_id: int
    first_s: float
    last_s: float
    samples: list[SampleOut]
    summary: TrackSummary


Notes = Annotated[
    list[str] | None,
    Field(
        description="sentences on bundles with memory that got frames at another rate than they were evaluated with",
        examples=[["lstm-va was evaluated at 30 frames a second and gets 25"]],
    ),
]


class VideoResponse(BaseModel):
    """Answer of POST /analyze/video."""

    request_id: str
    model: ModelInfo
    notes: Notes = None
    video: VideoOut
    tracks: list[TrackOut]
    frames: list[AnalyzedFrame] = Field(description="every analysed frame, with faces or without")
    timings_ms: Timings


class StreamedVideo(BaseModel):
    """A video as known before its first frame; see VideoOut."""

    width: int
    height: int
    fps: float | None = None
    start_s: float
    duration_s: float | None = None


class VideoLine(BaseModel):
    """The first object of an NDJSON answer."""

    type: Literal["video"]
    request_id: str
    model: ModelInfo
    notes: Notes = None
    video: StreamedVideo


class TrackedFaceOut(LocatedOut):
    """A face of a streamed frame, and its track."""

    track_id: int


class FrameLine(BaseModel):
    """An analysed frame, with faces or without, by decreasing box area."""

    type: Literal["frame"]
    time_s: float
    frame: int
    faces: list[TrackedFaceOut]


class ProgressLine(BaseModel):
    """Seconds of the requested part that have been analysed, of how many where that is known."""

    type: Literal["progress"]
    done_s: float
    duration_s: float | None = None


class SummarizedTrack(BaseModel):
    """A track without its samples."""

    track_id: int
    first_s: float
    last_s: float
    summary: TrackSummary


class SummaryLine(BaseModel):
    """The last object of an answer that is whole."""

    type: Literal["summary"]
    tracks: list[SummarizedTrack]
    frames_analyzed: int
    truncated: bool = Field(description="the file ends early because it is cut off or damaged")
    timings_ms: Timings


class ErrorLine(BaseModel):
    """The last object of an answer that fails after it has begun: problem details, but for their own type."""

    type: Literal["error"]
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    limit: dict[str, Any] | None = None


StreamLine: TypeAlias = Annotated[
    VideoLine | FrameLine | ProgressLine | SummaryLine | ErrorLine, Field(discriminator="type")
]
"""One line of an NDJSON answer."""


class LiveKey(BaseModel):
    """A client's first message where the service requires a key and the handshake had none, as a browser's."""

    authorization: str = Field(description="`Bearer` and an API key")


class LiveReady(BaseModel):
    """The first message of a live connection; frames may be sent from now on."""

    type: Literal["ready"]
    request_id: str
    model: ModelInfo
    limits: dict[str, float | int]


class LiveFrame(FrameLine):
    """The answer to an analysed frame. `time_s` is the time of its arrival, in seconds since the connection began."""

    skipped: int = Field(ge=0, description="frames between this one and the one answered before it")


class LiveError(ErrorLine):
    """The answer to a frame that could not be analysed."""

    frame: int
    skipped: int = Field(ge=0, description="frames between this one and the one answered before it")


class LiveOverloaded(BaseModel):
    """A frame is skipped since the service has no time for it, as are all that come within `pause_s` seconds."""

    type: Literal["overloaded"]
    frame: int
    pause_s: float
    detail: str
    limit: dict[str, Any] | None = None


LiveMessage: TypeAlias = Annotated[LiveReady | LiveFrame | LiveError | LiveOverloaded, Field(discriminator="type")]
"""One message of the service on a live connection."""


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    limit: dict[str, Any] | None = None


class JobStatus(BaseModel):
    """A job, as far as it has come."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1, description="share of the video that has been analysed")
    media_type: str = Field(description="media type of the result")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(None, description="time at which the result, or the job's end, is forgotten")
    truncated: bool | None = Field(
        None, description="of a job that has succeeded: whether the file ended early because it is damaged"
    )
    problem: Problem | None = Field(None, description="why the job failed")


class Health(BaseModel):
    """The process or the service is well."""

    status: Literal["ok"] = "ok"


class BundleInfo(BaseModel):
    """A loaded bundle: what it was trained on, expects and promises."""

    name: str
    version: str
    sha256: str
    licence: str
    tasks: dict[str, TaskInfo]
    answers: list[str] = Field(description="the tasks that it answers; the others are a later bundle's")
    labels: list[str]
    input: dict[str, Any]
    temporal: dict[str, Any] | None = Field(
        None, description="of a bundle with memory: the frame rate, state and longest gap that it was evaluated with"
    )
    calibration: dict[str, Any]
    prepared_with: str = Field(description="the face detector its crops were prepared with")
    training: dict[str, Any]
    quality: dict[str, Any]


class ModelsResponse(BaseModel):
    """Answer of GET /models."""

    device: str
    engine: str = Field(description="what runs the networks", examples=["openvino"])
    precision: str
    detector: str
    bundles: list[BundleInfo]
    video_fps: float = Field(description="analysed frames a second of a video where a request does not say")
    limits: dict[str, float | int]
