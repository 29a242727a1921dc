"""What a network answered to the faces of a split, calibrated, beside the references: all that measures need."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import Calibration
from training.data.prepared import PreparedFaces
from training.measuring.scoring import Outputs
from training.targets.derived import circumplex_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """N faces of a split, row for row; what the network does not answer is None. C expressions, 12 action units.

    found: bool [N], where answers count. derived: bool [N], where the units' targets count as well; annotated likewise
    for valence-arousal, None where it is derived too. majority: int64 [N], -1 without. valence_arousal, their targets
    and va_table (the expression probabilities looked up): float64 [N, 2]. expression: probabilities, float64 [N, C].
    units: probabilities, float64 [N, 12]; unit_targets are the teacher's scores in [0, 1]. `plain` is before
    calibration. thresholds: from where each unit is active. va_half_widths: of the intervals around valence and
    arousal, where they were fitted.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    va_half_widths: tuple[float, ...] | None
    found: NDArray[np.bool_]
    derived: NDArray[np.bool_]
    majority: NDArray[np.int64]
    va_targets: Floats
    unit_targets: Floats
    valence_arousal: Floats | None
    va_table: Floats | None
    expression: Floats | None
    expression_plain: Floats | None
    unit_logits: Floats | None
    units: Floats | None
    units_plain: Floats | None
    annotated: NDArray[np.bool_] | None = None

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """bool [N]: where valence-arousal and its targets count."""
        return self.derived if self.annotated is None else self.annotated

    def __len__(self) -> int:
        return len(self.found)

    def take(self, index: NDArray[np.int64]) -> "Answers":
        """The faces at `index`, int64 [M]; repetition is allowed."""
        arrays: dict[str, Any] = {
            name: value[index] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)


def answers_of(faces: PreparedFaces, rows: NDArray[np.int64], outputs: Outputs, calibration: Calibration) -> Answers:
    """`outputs`, which are of the found faces among `rows` in their order, beside the references of all `rows`."""
    found = np.isin(rows, outputs.rows)
    known = found & faces.with_valence_arousal[rows]

    def placed(values: Floats | None) -> Floats | None:
        if values is None:
            return None
        whole = np.zeros((len(rows), values.shape[1]))
        whole[found] = values
        return whole

    valence_arousal, axes = outputs.valence_arousal, calibration.valence_arousal
    logits, units, va_table = outputs.expression, outputs.action_units, None
    calibrated = None if logits is None else calibration.expression_probabilities(logits)
    if calibrated is not None and valence_arousal is not None and known.any():
        va_table = calibrated @ circumplex_table(faces.info.labels)
    return Answers(
        labels=faces.info.labels,
        thresholds=tuple(calibration.unit(name).threshold for name in ACTION_UNITS),
        va_half_widths=tuple(axis.half_width for axis in axes.values()) if axes else None,
        found=found,
        derived=found & faces.derived[rows],
        majority=faces.majority[rows],
        va_targets=faces.valence_arousal[rows].astype(np.float64),
        unit_targets=faces.action_units[rows].astype(np.float64),
        valence_arousal=placed(
            None if valence_arousal is None else calibration.valence_arousal_estimates(valence_arousal)
        ),
        va_table=placed(va_table),
        expression=placed(calibrated),
        expression_plain=placed(None if logits is None else Calibration().expression_probabilities(logits)),
        unit_logits=placed(units),
        units=placed(None if units is None else calibration.unit_probabilities(units)),
        units_plain=placed(None if units is None else Calibration().unit_probabilities(units)),
        annotated=None if faces.annotated is None else known,
    )
