"""The prepared sets that a run learns from, as its configuration names them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.models.spec import NetworkSpec
from training.data.mixture import MixedFaces, Source, mix
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.measuring.resting import read_sittings
from training.runs.config import DataConfig


def load_training_faces(config: DataConfig) -> PreparedFaces:
    """Open the prepared set of a configuration, or its sets as one.

    Raises DatasetError, also where a run would have no face to judge its epochs by.
    """
    faces = _opened(config)
    judged = faces.indices("validation", config.limit)
    if not faces.found[judged].any():
        raise DatasetError("there is no validation picture with a face, by which epochs are judged")
    return faces


def _opened(config: DataConfig) -> PreparedFaces:
    if config.prepared is not None:
        return load_prepared(config.prepared)
    return mix(
        [
            Source(
                each.prepared.name,
                load_prepared(each.prepared),
                each.share,
                each.tasks,
                each.trusted_units,
                each.neutral_at_rest,
                each.resting_factor,
                each.balance,
                each.taught,
            )
            for each in config.sets
        ]
    )


def origin(faces: PreparedFaces) -> dict[str, Any]:
    """Return how the set was prepared, and each set of a mixture with what was learned from it, as plain JSON values.

    The tasks of a set are those that it has targets for.
    """
    if not isinstance(faces, MixedFaces):
        return {"prepared": asdict(faces.info)}
    sets = [
        {
            "prepared": asdict(source.faces.info),
            "share": source.share,
            "tasks": [task for task in source.tasks if source.teaches(task)],
            "trusted_units": list(source.trusted_units),
            "neutral_at_rest": source.neutral_at_rest,
            "resting_factor": source.resting_factor,
            "balance": source.balance,
            "taught": source.taught,
        }
        for source in faces.sources
    ]
    return {"prepared": asdict(faces.info), "sets": sets}


def members(config: DataConfig, faces: PreparedFaces) -> list[tuple[Path, PreparedFaces]]:
    """Return each prepared set of a run, beside its folder, in the order of their records."""
    sets = [source.faces for source in faces.sources] if isinstance(faces, MixedFaces) else [faces]
    folders = [each.prepared for each in config.sets] if config.prepared is None else [config.prepared]
    return list(zip(folders, sets, strict=True))


def records_at_rest(config: DataConfig, faces: PreparedFaces) -> NDArray[np.int64]:
    """Return for each of N records that of the same person at rest in the same pose and light, int64 [N].

    It is -1 for records of sets that are not rendered, and for those that others are compared with. Raises
    DatasetError.
    """
    parts = []
    start = 0
    for folder, member in members(config, faces):
        records = np.arange(len(member))
        first = read_sittings(folder, member).baseline if member.info.rendered else np.full(len(member), -1)
        parts.append(np.where((first < 0) | (first == records), -1, first + start))
        start += len(member)
    return np.concatenate(parts)


def require_targets(faces: PreparedFaces, spec: NetworkSpec) -> None:
    """Refuse to train tasks that the set has no targets for. Raises DatasetError."""
    if isinstance(faces, MixedFaces):
        _require_targets_in_some_set(faces, spec)
        return
    given = {"expression"} | ({"valence_arousal"} if faces.info.annotated else set())
    if faces.info.rendered:
        if "valence_arousal" in spec.tasks:
            raise DatasetError("valence arousal of rendered faces is not known")
        return
    if not faces.info.derived and set(spec.tasks) - given:
        missing = " and ".join(task.replace("_", " ") for task in spec.tasks if task not in given)
        raise DatasetError(f"{missing} need a set prepared with --teacher")


def _require_targets_in_some_set(faces: MixedFaces, spec: NetworkSpec) -> None:
    for task in spec.tasks:
        if not any(source.teaches(task) for source in faces.sources):
            raise DatasetError(f"none of {', '.join(faces.set_names)} teaches {task.replace('_', ' ')}")
    untaught = [name for i, name in enumerate(ACTION_UNITS) if not faces.known_units[:, i].any()]
    if "action_units" in spec.tasks and untaught:
        raise DatasetError(f"none of {', '.join(faces.set_names)} teaches {', '.join(untaught)}")
