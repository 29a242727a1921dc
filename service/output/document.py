"""Analyses and bundles as the contract's documents."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from model_core.affect import ACTION_UNITS, Affect, Task
from model_core.bundles.manifest import BundleManifest
from service.analysis.results import FaceAnalysis, FrameAnalysis, Sample, VideoAnalysis
from service.output.schemas import (
    BundleInfo,
    FaceOut,
    FrameResponse,
    ImageInfo,
    ModelInfo,
    SampleOut,
    Spread,
    TaskInfo,
    TrackOut,
    TrackSummary,
    UnitInfo,
    VideoOut,
    VideoResponse,
)


def render_frame(analysis: FrameAnalysis, model: ModelInfo, request_id: str) -> FrameResponse:
    """The answer for a picture."""
    return FrameResponse(
        request_id=request_id,
        model=model,
        image=ImageInfo(width=analysis.width, height=analysis.height),
        faces=[_face(face) for face in analysis.faces],
        timings_ms=_milliseconds(analysis.timings_s),
    )


def render_video(analysis: VideoAnalysis, model: ModelInfo, request_id: str) -> VideoResponse:
    """The answer for a video; tracks in the order of their first appearance."""
    return VideoResponse(
        request_id=request_id,
        model=model,
        video=VideoOut(**asdict(analysis.info), frames_analyzed=analysis.frames_analyzed, truncated=analysis.truncated),
        tracks=[_track(track_id, samples) for track_id, samples in analysis.tracks.items()],
        timings_ms=_milliseconds(analysis.timings_s),
    )


def video_json(analysis: VideoAnalysis, model: ModelInfo, request_id: str) -> bytes:
    """The answer for a video as JSON; long ones take a while, so this is for a worker thread."""
    return render_video(analysis, model, request_id).model_dump_json(exclude_none=True).encode()


def server_timing(timings_s: Mapping[str, float]) -> str:
    """The header Server-Timing: `timings_ms`, which an answer's body holds, where browsers and proxies look for it."""
    return ", ".join(f"{stage};dur={spent_ms}" for stage, spent_ms in _milliseconds(timings_s).items())


def describe_tasks(answering: Mapping[Task, BundleManifest]) -> dict[str, TaskInfo]:
    """Each task with what is to know of the bundle that answers it."""
    return {task: _task(manifest, task) for task, manifest in answering.items()}


def describe_bundle(manifest: BundleManifest, answering: Mapping[Task, BundleManifest]) -> BundleInfo:
    """A bundle for `/models`; `answering`: the bundles that answer where a request asks for nothing else."""
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.weights_sha256,
        licence=manifest.licence,
        tasks=describe_tasks(dict.fromkeys(manifest.network.tasks, manifest)),
        answers=[task for task, other in answering.items() if other is manifest],
        labels=list(manifest.network.labels),
        input=asdict(manifest.input),
        temporal=None if manifest.temporal is None else asdict(manifest.temporal),
        calibration=asdict(manifest.calibration),
        prepared_with=manifest.detector,
        training=dict(manifest.training),
        quality=dict(manifest.quality),
    )


def _task(manifest: BundleManifest, task: Task) -> TaskInfo:
    calibration, units = manifest.calibration, None
    if task == "action_units":
        units = {
            unit: UnitInfo(name=name, threshold=calibration.unit(unit).threshold) for unit, name in ACTION_UNITS.items()
        }
    return TaskInfo(
        bundle=manifest.name,
        version=manifest.version,
        sha256=manifest.weights_sha256,
        reference=manifest.references[task],
        calibrated=getattr(calibration, task) is not None,
        units=units,
    )


def _located(analysis: FaceAnalysis) -> dict[str, object]:
    face = analysis.face
    place = {"box": face.box, "detection_confidence": face.confidence, "quality": analysis.quality}
    return {**place, **vars(analysis.affect)}


def _face(analysis: FaceAnalysis) -> FaceOut:
    values = {**_located(analysis), "landmarks": analysis.face.landmarks}
    return FaceOut.model_validate(values, from_attributes=True)


def _sample(sample: Sample) -> SampleOut:
    values = {**_located(sample.analysis), "time_s": sample.time_s, "frame": sample.frame}
    return SampleOut.model_validate(values, from_attributes=True)


def _track(track_id: int, samples: Sequence[Sample]) -> TrackOut:
    return TrackOut(
        track_id=track_id,
        first_s=samples[0].time_s,
        last_s=samples[-1].time_s,
        samples=[_sample(sample) for sample in samples],
        summary=_summary([sample.analysis.affect for sample in samples]),
    )


def _summary(affects: Sequence[Affect]) -> TrackSummary:
    labels = [affect.expression.label for affect in affects if affect.expression]
    units = [affect.action_units for affect in affects if affect.action_units]
    return TrackSummary(
        valence=_spread([affect.valence for affect in affects if affect.valence is not None]),
        arousal=_spread([affect.arousal for affect in affects if affect.arousal is not None]),
        expression_share={label: count / len(labels) for label, count in Counter(labels).most_common()} or None,
        active_share={name: sum(unit[name].active for unit in units) / len(units) for name in units[0]}
        if units
        else None,
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(mean=float(np.mean(values)), std=float(np.std(values)), min=min(values), max=max(values))


def _milliseconds(timings_s: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(1000 * seconds, 2) for stage, seconds in timings_s.items()}
