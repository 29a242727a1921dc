"""Answers of the service as frozen values; what they tell of a face is in `faces`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from affect_client.columns import native_columns, native_rows
from affect_client.errors import needing
from affect_client.faces import Face, Frame, picked

if TYPE_CHECKING:
    import pandas as pd


TRUNCATED = "the file is damaged and ended early; the result is of its first part"
"""What is told of the result of such a file."""


@dataclass(frozen=True)
class Task:
    """The bundle that answers a task."""

    bundle: str
    version: str
    sha256: str
    reference: str
    """Where its training targets came from: `annotated` by people, `derived` or `rendered`."""
    units: Mapping[str, Mapping[str, Any]] | None
    """What is known of each action unit: its FACS `name`, its `threshold` and more."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the task of a JSON object."""
        units = values.get("units")
        # Answers leave out what is not known of a unit, where /models says null.
        known = units and {name: _present(unit) for name, unit in units.items()}
        return cls(**picked(values, "bundle", "version", "sha256", "reference"), units=known)


@dataclass(frozen=True)
class Model:
    """The device, the detector and the bundles that computed an answer."""

    device: str
    engine: str
    precision: str
    detector: str
    tasks: Mapping[str, Task]
    """By name: valence_arousal, expression, action_units, eyes_closed, unit_changes."""

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the action units in their order; empty where no bundle estimates them."""
        task = self.tasks.get("action_units")
        return tuple(task.units or ()) if task else ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the model of a JSON object."""
        return cls(
            **picked(values, "device", "engine", "precision", "detector"),
            tasks={name: Task.of(task) for name, task in values["tasks"].items()},
        )


@dataclass(frozen=True)
class Models:
    """Answer of GET /models."""

    model: Model
    """What computes answers where a request asks for nothing else."""
    labels: tuple[str, ...]
    """Labels of expressions, in their order; empty where no bundle estimates them."""
    bundles: tuple[Mapping[str, Any], ...]
    """Each loaded bundle as the service describes it: labels, input, calibration, training data, measured quality."""
    video_fps: float
    """Analysed frames a second of a video where a request does not say."""
    limits: Mapping[str, float]
    """Limits of requests by the variables that set them."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the models of a JSON object."""
        answering = {task: bundle for bundle in values["bundles"] for task in bundle["answers"]}
        tasks = {task: bundle["tasks"][task] for task, bundle in answering.items()}
        return cls(
            model=Model.of({**values, "tasks": tasks}),
            labels=tuple(answering["expression"]["labels"]) if "expression" in answering else (),
            bundles=tuple(values["bundles"]),
            video_fps=values["video_fps"],
            limits=values["limits"],
        )


@dataclass(frozen=True)
class Picture:
    """Answer of POST /analyze/frame: the faces of a picture, the largest first."""

    request_id: str
    model: Model
    width: int
    """Pixels of the upright picture."""
    height: int
    faces: tuple[Face, ...]
    timings_ms: Mapping[str, float]
    """Milliseconds by stage."""
    baseline: Face | None = None
    """The face of the baseline by itself, where one was sent: whether it is reliable, and at rest."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the picture of a JSON document."""
        return cls(
            request_id=values["request_id"],
            model=Model.of(values["model"]),
            width=values["image"]["width"],
            height=values["image"]["height"],
            faces=tuple(Face.of(face) for face in values["faces"]),
            timings_ms=values["timings_ms"],
            baseline=Face.of(values["baseline"]) if "baseline" in values else None,
        )

    @property
    def as_frame(self) -> Frame:
        """The picture as the only frame of a video, as tables show it."""
        return Frame(0.0, 0, self.faces)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row for each face, in the columns of the service's CSV; needs pandas."""
        return frames_to_pandas([self.as_frame], self.model)


@dataclass(frozen=True)
class Video:
    """A video as known before its first frame."""

    width: int
    """Pixels as players show it."""
    height: int
    fps: float | None
    """The source's frames a second on average; None where it does not tell."""
    start_s: float
    """Timestamp of its first frame."""
    duration_s: float | None
    """Seconds from there to the end; None where it does not tell."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the video of a JSON object."""
        return cls(
            **picked(values, "width", "height", "start_s"), fps=values.get("fps"), duration_s=values.get("duration_s")
        )


@dataclass(frozen=True)
class Progress:
    """The progress of an analysis."""

    done_s: float
    """Seconds of the requested part that have been analysed."""
    duration_s: float | None
    """Length of that part; None where it is not known."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of the population) and extremes over a track's samples."""

    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> Self | None:
        """Return the spread of a JSON object, None where there is none."""
        return None if values is None else cls(**picked(values, "mean", "std", "min", "max"))


@dataclass(frozen=True)
class TrackSummary:
    """A face over time, in numbers; shares are of its samples, 0 to 1."""

    track_id: int
    first_s: float
    last_s: float
    valence: Spread | None
    arousal: Spread | None
    expression_share: Mapping[str, float] | None
    active_share: Mapping[str, float] | None
    eyes_closed_share: float | None
    compared: int | None = None
    """Samples that were compared with a baseline; None where none was asked for."""
    rose_share: Mapping[str, float] | None = None
    """Of those samples, the share in which valence, arousal or a unit rose."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the summary of a JSON object."""
        summary = values["summary"]
        return cls(
            **picked(values, "track_id", "first_s", "last_s"),
            valence=Spread.of(summary.get("valence")),
            arousal=Spread.of(summary.get("arousal")),
            expression_share=summary.get("expression_share"),
            active_share=summary.get("active_share"),
            eyes_closed_share=summary.get("eyes_closed_share"),
            compared=summary.get("compared"),
            rose_share=summary.get("rose_share"),
        )


@dataclass(frozen=True)
class VideoSummary:
    """The end of a video's analysis."""

    tracks: tuple[TrackSummary, ...]
    frames_analyzed: int
    truncated: bool
    """True if the file ends early because it is cut off or damaged."""
    timings_ms: Mapping[str, float]
    """Milliseconds by stage."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the summary of a JSON object."""
        return cls(
            tracks=tuple(TrackSummary.of(track) for track in values["tracks"]),
            **picked(values, "frames_analyzed", "truncated", "timings_ms"),
        )

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row for each track, with columns like `valence_mean` and `active_share_AU12`; needs pandas."""
        with needing("tables"):
            import pandas as pd

        return pd.DataFrame([dict(_flat(vars(track))) for track in self.tracks])


@dataclass(frozen=True)
class JobStatus:
    """A job, as far as it has come."""

    id: str
    state: str
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    progress: float
    """Share of the video that has been analysed, 0 to 1."""
    problem: Mapping[str, Any] | None
    """Problem document of a job that failed."""
    truncated: bool
    """True for a job that has succeeded if its file is damaged and ended early."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the status of a JSON object."""
        told = picked(values, "id", "state", "progress")
        return cls(**told, problem=values.get("problem"), truncated=bool(values.get("truncated")))

    @property
    def ended(self) -> bool:
        """True if the state is final."""
        return self.state in {"succeeded", "failed", "cancelled"}


def frames_to_pandas(frames: Iterable[Frame], model: Model) -> "pd.DataFrame":
    """Return a row for each face of each frame, and one for a frame without faces; needs pandas.

    Columns and values are those that pandas reads from the service's CSV, but expressions and changes have columns only
    where a face has them. Raises MissingExtra before it takes a frame.
    """
    with needing("tables"):
        import pandas as pd

    frames = list(frames)
    faces = [face for frame in frames for face in frame.faces]
    labels = next((tuple(face.expression.probabilities) for face in faces if face.expression), ())
    rows = [row for frame in frames for row in native_rows(frame)]
    return pd.DataFrame(rows, columns=native_columns(model.tasks, labels, model.units, faces))


def document_frames(document: Mapping[str, Any]) -> list[Frame]:
    """Return the frames of a video's JSON document in their order, each with the faces that its tracks have there."""
    samples = {
        (sample["frame"], track["track_id"]): Face.of({**sample, "track_id": track["track_id"]})
        for track in document["tracks"]
        for sample in track["samples"]
    }
    return [
        Frame(each["time_s"], each["frame"], tuple(samples[each["frame"], track_id] for track_id in each["faces"]))
        for each in document["frames"]
    ]


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the numbers in nested values, each by the names that lead to it."""
    for name, value in values.items():
        inner = vars(value) if isinstance(value, Spread) else value
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}_")
        elif inner is not None:
            yield f"{prefix}{name}", inner
