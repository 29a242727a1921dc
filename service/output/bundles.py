"""Bundles as the contract's documents: what answers a task, and what is known of it."""

from collections.abc import Mapping
from dataclasses import asdict

from model_core.affect import ACTION_UNITS, Task
from model_core.bundles.manifest import BundleManifest, calibration_values
from model_core.calibration import UNCALIBRATED_UNIT
from service.output.schemas import BundleInfo, TaskInfo, UnitInfo


def describe_tasks(answering: Mapping[Task, BundleManifest]) -> dict[str, TaskInfo]:
    """Return each task with what is known of the bundle that answers it."""
    return {task: _task(manifest, task) for task, manifest in answering.items()}


def describe_bundle(manifest: BundleManifest, answering: Mapping[Task, BundleManifest]) -> BundleInfo:
    """Return a bundle for `/models`; `answering`: the bundles that answer where a request asks for nothing else."""
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
        calibration=calibration_values(manifest.calibration),
        prepared_with=manifest.detector,
        training=dict(manifest.training),
        quality=dict(manifest.quality),
    )


def _task(manifest: BundleManifest, task: Task) -> TaskInfo:
    eyes = manifest.calibration.eyes_closed or UNCALIBRATED_UNIT
    units = {name: _unit(manifest, name) for name in ACTION_UNITS} if task == "action_units" else None
    return TaskInfo(
        bundle=manifest.name,
        version=manifest.version,
        sha256=manifest.weights_sha256,
        reference=manifest.references[task],
        calibrated=manifest.calibration.fitted(task),
        units=units,
        threshold=eyes.threshold if task == "eyes_closed" else None,
    )


def _unit(manifest: BundleManifest, name: str) -> UnitInfo:
    note = manifest.unit_notes[name] if manifest.unit_notes else None
    return UnitInfo(
        name=ACTION_UNITS[name],
        threshold=manifest.calibration.unit(name).threshold,
        **(asdict(note) if note else {}),
    )
