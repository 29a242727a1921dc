"""The calibrated answers of a network for the faces of a split, beside the references: the input of every measure."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Reference, Task
from model_core.baseline import ChangeEstimator, Comparison, levels_of
from model_core.calibration import Calibration
from training.data.prepared import PreparedFaces
from training.measuring.scoring import Outputs
from training.targets.derived import circumplex_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Answers and references of N faces, row by row. Arrays of tasks that the network does not have are None.

    There are C expressions and 12 action units; `_plain` marks values before calibration.
    """

    labels: tuple[str, ...]
    """The C expression labels."""
    thresholds: tuple[float, ...]
    """The probability from which on each unit is active."""
    va_half_widths: tuple[float, ...] | None
    """Half-widths of the intervals around valence and arousal. None: they were not fitted."""
    found: NDArray[np.bool_]
    """bool [N]: True where the face was found, so that its answers count."""
    derived: NDArray[np.bool_]
    """bool [N]: True where the units' targets count as well."""
    majority: NDArray[np.int64]
    """int64 [N]: the label with the majority of votes, or -1."""
    va_targets: Floats
    """float64 [N, 2] in [-1, 1]."""
    unit_targets: Floats
    """float64 [N, 12]: the teacher's scores or known intensities, in [0, 1]."""
    unit_reference: Reference
    """The origin of the units' targets."""
    units_present: NDArray[np.bool_]
    """bool [N, 12]: True where a unit counts as present by its target."""
    valence_arousal: Floats | None
    """float64 [N, 2]: estimates."""
    va_table: Floats | None
    """float64 [N, 2]: the expected position of the expression probabilities on the circumplex."""
    expression: Floats | None
    """float64 [N, C]: probabilities."""
    expression_plain: Floats | None
    """float64 [N, C]: probabilities."""
    unit_logits: Floats | None
    """float64 [N, 12]: uncalibrated logits."""
    units: Floats | None
    """float64 [N, 12]: probabilities."""
    units_plain: Floats | None
    """float64 [N, 12]: probabilities."""
    unit_levels: Floats | None
    """float64 [N, L]: what a face is compared by with the same person at rest (see `model_core.baseline`)."""
    comparison: Comparison
    """Compares these levels: those of the units alone."""
    annotated: NDArray[np.bool_] | None = None
    """bool [N]: True where annotated valence-arousal counts. None: it is derived, and counts like the units."""

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """bool [N]: True where valence-arousal and its targets count."""
        return self.derived if self.annotated is None else self.annotated

    def __len__(self) -> int:
        return len(self.found)

    def take(self, index: NDArray[np.int64]) -> "Answers":
        """Return the answers at `index`, int64 [M], which may repeat."""
        arrays: dict[str, Any] = {
            name: value[index] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)


def answers_of(
    faces: PreparedFaces,
    rows: NDArray[np.int64],
    outputs: Outputs,
    calibration: Calibration,
    estimator: ChangeEstimator | None = None,
) -> Answers:
    """Calibrate `outputs`, which are of the found faces among `rows` in order, and add the references of all rows.

    `estimator` is the network's, where it has one.
    """
    found = np.isin(rows, outputs.rows)
    known = found & faces.with_valence_arousal[rows]

    def placed(values: Floats | None) -> Floats | None:
        if values is None:
            return None
        whole = np.zeros((len(rows), values.shape[1]))
        whole[found] = values
        return whole

    valence_arousal, axes = outputs.valence_arousal, calibration.valence_arousal
    logits = outputs.expression
    units = outputs.action_units
    va_table = None
    calibrated = None if logits is None else calibration.expression_probabilities(logits)
    if calibrated is not None and valence_arousal is not None and known.any():
        va_table = calibrated @ circumplex_table(faces.info.labels)
    by_units = _compared_outputs(outputs)
    return Answers(
        labels=faces.info.labels,
        thresholds=tuple(calibration.unit(name).threshold for name in ACTION_UNITS),
        va_half_widths=tuple(axis.half_width for axis in axes.values()) if axes else None,
        found=found,
        derived=found & faces.with_action_units[rows],
        majority=faces.majority[rows],
        va_targets=faces.valence_arousal[rows].astype(np.float64),
        unit_targets=faces.action_units[rows].astype(np.float64),
        unit_reference=faces.info.unit_reference,
        units_present=faces.units_present[rows],
        valence_arousal=placed(
            None if valence_arousal is None else calibration.valence_arousal_estimates(valence_arousal)
        ),
        va_table=placed(va_table),
        expression=placed(calibrated),
        expression_plain=placed(None if logits is None else Calibration().expression_probabilities(logits)),
        unit_logits=placed(units),
        units=placed(None if units is None else calibration.unit_probabilities(units)),
        units_plain=placed(None if units is None else Calibration().unit_probabilities(units)),
        unit_levels=placed(levels_of(by_units, calibration) if by_units else None),
        comparison=Comparison.of(by_units, calibration, estimator),
        annotated=None if faces.annotated is None and not faces.info.rendered else known,
    )


def _compared_outputs(outputs: Outputs) -> dict[Task, Floats]:
    by_task: dict[Task, Floats | None] = {
        "action_units": outputs.action_units,
        "unit_changes": outputs.unit_changes,
    }
    return {task: values for task, values in by_task.items() if values is not None}
