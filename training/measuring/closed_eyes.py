"""Closed eyes: which faces of a prepared set have them, and how well a network tells them from open ones."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.calibration import UNCALIBRATED_UNIT, Calibration, UnitCalibration
from model_core.metrics import auroc, ece
from training.data.prepared import PreparedFaces
from training.measuring.bootstrap import UpwardBiased, intervals
from training.measuring.rendered import people_of, pictures_of
from training.measuring.scoring import Outputs
from training.targets.teacher import BLENDSHAPES

RENDERED_CLOSED, RENDERED_OPEN = 0.7, 0.05
"""Rendered eyes count as closed from the one share of a blink on, and as open up to the other."""

READ_CLOSED, READ_OPEN = 0.5, 0.3
"""The same for the teacher's score of the eye that is less closed; downcast eyes often lie between the two."""

_BLINKS = [BLENDSHAPES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]


@dataclass(frozen=True)
class Eyes:
    """The eyes of the N records of a prepared set. Those of which neither is True are left out of every measure."""

    closed: NDArray[np.bool_]
    """bool [N]."""
    open: NDArray[np.bool_]
    """bool [N]."""
    people: NDArray[np.str_] | None
    """str [N]: the people in the pictures, where they are known."""


def eyes_in(prepared: Path, faces: PreparedFaces) -> Eyes | None:
    """Return the eyes of a prepared set's records, as they were rendered or as the teacher reads them.

    None where neither is known. Raises DatasetError where a table of rendered pictures is missing or lacks a record.
    """
    if faces.info.rendered:
        pictures = pictures_of(prepared, faces.names)
        shut = np.array([picture.eyes_closed for picture in pictures])
        return Eyes(shut >= RENDERED_CLOSED, shut <= RENDERED_OPEN, people_of(pictures))
    if faces.blendshapes is None:
        return None
    read = faces.blendshapes[:, _BLINKS].min(axis=1)
    return Eyes(faces.derived & (read >= READ_CLOSED), faces.derived & (read <= READ_OPEN), None)


def measure_closed_eyes(outputs: Outputs, eyes: Eyes, calibration: Calibration, resamples: int = 0) -> dict[str, Any]:
    """Return the measures of a network's outputs for found faces of the set, with intervals over people or faces.

    They are those of `measures`, and the numbers of faces that are `closed` and `open`. Empty where either is 0.
    """
    assert outputs.eyes_closed is not None
    kept = (eyes.closed | eyes.open)[outputs.rows]
    closed = eyes.closed[outputs.rows][kept]
    if closed.all() or not closed.any():
        return {}
    logits = outputs.eyes_closed[kept, 0]
    unit = calibration.eyes_closed or UNCALIBRATED_UNIT
    people = None if eyes.people is None else eyes.people[outputs.rows][kept]
    return {
        "closed": int(closed.sum()),
        "open": int((~closed).sum()),
        **measures(logits, closed, unit),
        "intervals": intervals(
            lambda index: measures(logits[index], closed[index], unit), len(closed), resamples, clusters=people
        ),
    }


def measures(logits: NDArray[np.float64], closed: NDArray[np.bool_], unit: UnitCalibration) -> dict[str, float]:
    """Return the measures of logits [N] for faces with closed or open eyes, bool [N]; NaN where one is undefined.

    * `auroc`: of faces with closed eyes against such with open ones
    * `recall`: share of the closed ones that are called closed
    * `false_alarms`: share of the open ones that are
    * `ece`: calibration error of the probability
    """
    probability = unit.probability(logits)
    active = probability >= unit.threshold
    return {
        "auroc": auroc(logits, closed),
        "recall": float(active[closed].mean()) if closed.any() else math.nan,
        "false_alarms": float(active[~closed].mean()) if not closed.all() else math.nan,
        "ece": UpwardBiased(ece(probability, closed.astype(np.float64))),
    }
