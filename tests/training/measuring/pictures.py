"""Pictures of rendered people, and answers for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.baseline import ChangeEstimator, Comparison
from model_core.calibration import Calibration
from tests.fakes import write_prepared
from training.data.prepared import load_prepared, write_targets
from training.datasets.rendered import MANIFEST, RenderedPicture, as_json
from training.measuring.answers import Answers

LABELS = LABEL_SETS["ferplus"]
REST = dict.fromkeys(ACTION_UNITS, 0.0)
BOTH_WAYS = np.hstack([np.eye(12), -np.eye(12)])
DIFFERENCES = ChangeEstimator(BOTH_WAYS.T, np.zeros(24), np.vstack([BOTH_WAYS, BOTH_WAYS / 10]))
"""Rises are the differences of outputs, and changes of intensity a tenth of them."""


def picture(sitting: int, place: int, moved: Mapping[str, float] | None = None, **changes: Any) -> RenderedPicture:
    """A picture of a light woman of 30, at rest unless units are moved."""
    units = tuple((REST | dict(moved or {})).values())
    values: dict[str, Any] = {
        "file": f"pictures/000/{sitting:06}-{place}.jpg",
        "sitting": sitting,
        "person": "anna",
        "original": "anna",
        "split": "test",
        "model": "makehuman",
        "sex": "female",
        "age": 30.0,
        "age_group": "young",
        "tone": "light",
        "kind": "single" if moved else "neutral",
        "expression": None,
        "strength": max(units),
        "votes": (0.0,) * len(LABELS),
        "left": units,
        "right": units,
        "others": {},
        "yaw": 0.0,
        "pitch": 0.0,
        "roll": 0.0,
        "gaze": (0.0, 0.0),
        "eyes_closed": 0.0,
    }
    return RenderedPicture(**(values | changes))


def answers_for(
    pictures: Sequence[RenderedPicture],
    logits: NDArray[np.float64],
    *,
    said: Sequence[str] | None = None,
    found: Sequence[bool] | None = None,
) -> Answers:
    """Answers with the same logit, float64 [N], for each unit, which is also valence, and thresholds of one half.

    The logits are also the outputs that are compared, see DIFFERENCES.
    """
    count = len(pictures)
    units = np.repeat(logits[:, None], len(ACTION_UNITS), axis=1)
    seen = np.ones(count, dtype=bool) if found is None else np.array(found)
    expression = None if said is None else np.eye(len(LABELS))[[LABELS.index(label) for label in said]]
    targets = np.array([each.units for each in pictures])
    return Answers(
        labels=LABELS,
        thresholds=(0.5,) * len(ACTION_UNITS),
        va_half_widths=None,
        found=seen,
        derived=seen,
        majority=np.full(count, -1),
        va_targets=np.zeros((count, 2)),
        unit_targets=targets,
        unit_reference="rendered",
        units_present=targets >= 0.2,
        valence_arousal=np.stack([logits / 10, np.zeros(count)], axis=1),
        va_table=None,
        expression=expression,
        expression_plain=expression,
        unit_logits=units,
        units=1 / (1 + np.exp(-units)),
        units_plain=1 / (1 + np.exp(-units)),
        unit_levels=units,
        comparison=Comparison.of(("unit_changes",), Calibration(), DIFFERENCES),
    )


def write_rendered(folder: Path, pictures: Sequence[RenderedPicture]) -> Path:
    """A prepared set of these pictures; its crops are those of `write_prepared`."""
    faces = load_prepared(write_prepared(folder, train=0, validation=0, test=len(pictures)))
    info = replace(faces.info, dataset="rendered", rendered=True, derived=False, annotators=1)
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array([f"{each.person}/{each.file}" for each in pictures]),
        "splits": np.array([each.split for each in pictures]),
        "found": faces.found,
        "votes": np.array([each.votes for each in pictures], dtype=np.float32),
        "derived": np.zeros(len(pictures), dtype=bool),
        "action_units": np.array([each.units for each in pictures], dtype=np.float32),
        "valence_arousal": np.zeros((len(pictures), 2), dtype=np.float32),
    }
    write_targets(folder, info, arrays)
    (folder / MANIFEST).write_text("".join(map(as_json, pictures)))
    return folder
