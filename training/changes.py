"""`python -m training.changes`: teach a run's network to compare a face with the same person at rest.

The network stays as it is, and a linear head `unit_changes` on its vectors is added to the run's `best.pt`. It is
fitted by logistic regression to the differences of vectors of rendered training faces from those of the same person at
rest: what differs between people cancels out there, and need not be ignored by its weights. The slopes that make
intensities of its outputs, and the limits of changes, are fitted to the validation faces and added to the calibration.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from model_core.affect import ACTION_UNITS
from model_core.metrics import auroc, pearson
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.datasets.rendered import PRESENT
from training.measuring.fitting import MIN_POSITIVES, minimise
from training.measuring.rendered import UNMOVED
from training.measuring.resting import LevelReader, Sittings, limits_at_rest, read_sittings
from training.runs.added_heads import Head, VectorReader, load_extensible, with_head
from training.runs.checkpoint import CheckpointError, save_trained
from training.runs.command_line import CommandParser, fail
from training.runs.trained import Evaluable, load_evaluable, read_calibration, require_alignment, write_calibration

RIDGE = 0.03
"""Penalty on the squared weights of vectors whose differences have a standard deviation of 1."""


@dataclass(frozen=True)
class Pairs:
    """N rendered faces, each beside the same person at rest in the same pose and light."""

    differences: NDArray[np.float64]
    """float64 [N, D]: the vector of the face less that at rest."""
    intensities: NDArray[np.float64]
    """float64 [N, 12]: known intensities of the units, in [0, 1]."""
    changes: NDArray[np.float64]
    """float64 [N, 12]: the intensities less those at rest."""

    @property
    def moved(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where a unit is moved."""
        return np.asarray(self.intensities >= np.float32(PRESENT))

    @property
    def told(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where a unit is clearly moved or clearly not; others count for neither."""
        return np.asarray(self.moved | (self.intensities <= UNMOVED))


def fit_head(pairs: Pairs) -> Head:
    """Return the head that minimises the penalised cross-entropy of moved units, each unit by itself.

    Its bias is 0, since it cancels out of differences. Raises DatasetError where a unit moves too seldom.
    """
    counts = dict(zip(ACTION_UNITS, pairs.moved.sum(axis=0).tolist(), strict=True))
    if scarce := [name for name, count in counts.items() if count < MIN_POSITIVES]:
        raise DatasetError(f"fewer than {MIN_POSITIVES} training faces move {', '.join(scarce)}")
    spread = pairs.differences.std(axis=0) + 1e-6
    x, told, moved = (torch.from_numpy(each) for each in (pairs.differences / spread, pairs.told, pairs.moved))
    y, weights = moved.double(), told.double() / told.sum(dim=0)
    weight = torch.zeros(x.shape[1], len(ACTION_UNITS), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(ACTION_UNITS), dtype=torch.float64, requires_grad=True)

    def objective() -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="none")
        return (losses * weights).sum() + RIDGE * weight.square().sum()

    minimise(objective, [weight, bias])
    return Head(weight.detach().numpy().T / spread, np.zeros(len(ACTION_UNITS)))


def fit_slopes(outputs: NDArray[np.float64], changes: NDArray[np.float64]) -> dict[str, float]:
    """Return each unit's slope, by which the tanh of its outputs [N, 12] is nearest to changes of intensity [N, 12]."""
    z, y = torch.from_numpy(outputs), torch.from_numpy(changes)
    # From where a tanh is all but saturated the search would not come back, so it starts with the best straight lines.
    lines = ((z * y).sum(dim=0) / z.square().sum(dim=0)).clamp(min=1e-6)
    log_slopes = lines.log().requires_grad_()

    def objective() -> torch.Tensor:
        return (torch.tanh(log_slopes.exp() * z) - y).square().mean(dim=0).sum()

    minimise(objective, [log_slopes])
    return dict(zip(ACTION_UNITS, log_slopes.detach().exp().tolist(), strict=True))


def measures(pairs: Pairs, outputs: NDArray[np.float64], slopes: dict[str, float]) -> dict[str, float]:
    """Return means over the units for outputs [N, 12]; NaN where one is undefined for a unit.

    * `auroc`: of pairs in which a unit moves against such in which it does not
    * `r`: Pearson's, of the change of intensity with what is told
    """
    told, moved = pairs.told, pairs.moved
    ranks = [auroc(outputs[told[:, i], i], moved[told[:, i], i]) for i in range(len(ACTION_UNITS))]
    values = np.tanh(outputs * list(slopes.values()))
    correlations = [pearson(values[:, i], pairs.changes[:, i]) for i in range(len(ACTION_UNITS))]
    return {"auroc": float(np.mean(ranks)), "r": float(np.mean(correlations))}


def add_changes(run: Path, prepared: Sequence[Path]) -> dict[str, float]:
    """Add the head, and its part of the calibration, to a run. Returns the measures of the validation faces.

    Raises CheckpointError, DatasetError, ModuleNotFoundError without the extra `openvino`, and ValueError for too few
    validation faces at rest.
    """
    trained = load_extensible(run)
    evaluable = load_evaluable(run)
    sets = [_readable(evaluable, folder) for folder in prepared]
    reader = VectorReader(evaluable)
    train, validation = (_pairs(reader, sets, split) for split in ("train", "validation"))
    head = fit_head(train)
    outputs = head(validation.differences)
    slopes = fit_slopes(outputs, validation.changes)
    measured = {"faces": len(outputs), **measures(validation, outputs, slopes)}
    described = {
        "sets": [asdict(faces.info) for faces, _ in sets],
        "faces": len(train.intensities),
        "validation": measured,
    }
    extended = replace(
        with_head(trained, "unit_changes", head), training={**trained.training, "unit_changes": described}
    )
    calibration = replace(read_calibration(run), unit_changes=slopes)
    levels = LevelReader(extended.build(), evaluable.input, calibration)
    calibration = replace(calibration, change_limits=limits_at_rest(levels, sets))
    save_trained(extended, run / "best.pt")
    write_calibration(run, calibration)
    return measured


def _readable(evaluable: Evaluable, prepared: Path) -> tuple[PreparedFaces, Sittings]:
    faces = load_prepared(prepared)
    require_alignment(evaluable, faces)
    return faces, read_sittings(prepared, faces)


def _pairs(reader: VectorReader, sets: Sequence[tuple[PreparedFaces, Sittings]], split: Split) -> Pairs:
    """Return the pairs of a split. Raises DatasetError where there are none."""
    parts = []
    for faces, sittings in sets:
        rows = np.flatnonzero((faces.splits == split) & faces.found & (sittings.baseline >= 0))
        if len(rows):
            at_rest = np.searchsorted(rows, sittings.baseline[rows])
            compared = at_rest != np.arange(len(rows))
            vectors, units = reader.vectors(faces, rows), faces.action_units[rows].astype(np.float64)
            parts.append(
                Pairs((vectors - vectors[at_rest])[compared], units[compared], (units - units[at_rest])[compared])
            )
    if not parts:
        raise DatasetError(f"no {split} face stands beside the same person at rest")
    columns = zip(*((part.differences, part.intensities, part.changes) for part in parts), strict=True)
    return Pairs(*map(np.concatenate, columns))


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.changes", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt, on still pictures")
    parser.add_argument(
        "--prepared", required=True, nargs="+", type=Path, metavar="SET", help="prepared sets of rendered faces"
    )
    args = parser.parse_args()
    try:
        measured = add_changes(args.run, args.prepared)
    except (CheckpointError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    print(f"{measured['faces']} validation faces beside the same person at rest, means over the units:")
    print(f"AUROC {measured['auroc']:.3f}, r {measured['r']:.3f}")


if __name__ == "__main__":
    main()
