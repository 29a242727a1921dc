"""`python -m training.changes`: teach a run's network to compare a face with the same person at rest.

The network stays as it is. A linear head `unit_changes` on its vectors is added to the run's `best.pt`, and with it an
estimator, which tells the changes of the units by how the head's outputs differ from those of the same person at rest.
Both are fitted to such differences of rendered training faces: what differs between people cancels out there, and need
not be ignored by the weights. The limits of changes are fitted to the validation faces, and join the calibration.

A network whose training went on from another one's weights may keep that one's head and estimator (`--estimator-of`).
Where it has seen few people since, these tell more than what could be fitted to so few; only the limits are fitted.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from model_core.affect import ACTION_UNITS
from model_core.baseline import ChangeEstimator, Compared
from model_core.bundles.bundle import BundleError
from model_core.metrics import auroc, pearson
from model_core.models.spec import EstimatorSpec, NetworkSpec
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.datasets.rendered import PRESENT
from training.measuring.fitting import MIN_POSITIVES
from training.measuring.rendered import UNMOVED
from training.measuring.resting import LevelReader, Sittings, limits_at_rest, read_sittings
from training.measuring.scoring import estimator_of as read_estimator
from training.runs.added_heads import Head, VectorReader, add_precision, load_extensible, save_extended, with_head
from training.runs.checkpoint import CheckpointError, TrainedNetwork
from training.runs.command_line import CommandParser, fail
from training.runs.config import CPUPrecision
from training.runs.trained import (
    Evaluable,
    find_evaluable,
    load_evaluable,
    read_calibration,
    require_alignment,
)

OUTPUTS = 32
"""Outputs of the head: on validation faces 24 tell the units a little worse, and 64 hardly better."""

EARLIER_NETWORK = "the network that training went on from"
"""What an estimator that is kept was fitted to, as the bundle tells it."""

HIDDEN = 256
EPOCHS = 40
BATCH_SIZE = 128
RATE = 1e-3
WEIGHT_DECAY = 0.5
SQUARED_ERRORS = 5.0
"""Weight of the squared errors of intensities beside the cross-entropy."""

DROPOUT = (0.7, 0.3)
"""Of the vectors' differences, and of the hidden layer. These, too, were chosen on validation faces."""


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


@dataclass(frozen=True)
class FittedChanges:
    """A head and an estimator that were fitted together: they tell movements by a difference of vectors."""

    head: Head
    """From vectors to K outputs. Its bias is 0, since it would cancel out of differences."""
    estimator: ChangeEstimator
    """From a difference of outputs to rises and changes of intensity."""

    def __call__(self, differences: NDArray[np.float64]) -> Compared:
        """Return what is estimated for differences of vectors, float64 [N, D]."""
        return self.estimator(self.head(differences))


def fit_changes(pairs: Pairs, seed: int = 0) -> FittedChanges:
    """Return the head and the estimator that tell moved units, and by how much. The same seed gives the same.

    A layer of HIDDEN units is trained on whole differences; its weights' largest singular values become the head, and
    what they turn into the estimator's first layer. Raises DatasetError where a unit moves too seldom.
    """
    counts = dict(zip(ACTION_UNITS, pairs.moved.sum(axis=0).tolist(), strict=True))
    if scarce := [name for name, count in counts.items() if count < MIN_POSITIVES]:
        raise DatasetError(f"fewer than {MIN_POSITIVES} training faces move {', '.join(scarce)}")
    spread = pairs.differences.std(axis=0) + 1e-6
    first, last = _trained_layers(pairs.differences / spread, pairs, seed)
    left, values, right = np.linalg.svd(first.weight.detach().double().numpy(), full_matrices=False)
    kept = min(OUTPUTS, len(values))
    weight = right[:kept] / spread
    scale = (pairs.differences @ weight.T).std(axis=0) + 1e-6  # outputs get a spread of 1, which float16 holds well
    estimator = ChangeEstimator(
        left[:, :kept] * values[:kept] * scale,
        first.bias.detach().double().numpy(),
        last.weight.detach().double().numpy(),
    )
    return FittedChanges(Head(weight / scale[:, None], np.zeros(kept)), estimator)


def _trained_layers(differences: NDArray[np.float64], pairs: Pairs, seed: int) -> tuple[nn.Linear, nn.Linear]:
    """Return layers [HIDDEN, D] and [24, HIDDEN] for differences with a spread of 1.

    They learn the log-odds of moved units by cross-entropy, and changes of intensity by squared errors.
    """
    parts = (differences, pairs.told, pairs.moved, pairs.changes)
    x, told, moved, changes = (torch.from_numpy(each).float() for each in parts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, 2 * len(ACTION_UNITS))
        network = nn.Sequential(nn.Dropout(DROPOUT[0]), first, nn.ReLU(), nn.Dropout(DROPOUT[1]), last)
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        steps = EPOCHS * math.ceil(len(x) / BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in tqdm(range(EPOCHS), "changes, epochs", disable=None):
            for rows in torch.randperm(len(x)).split(BATCH_SIZE):
                rises, intensities = network(x[rows]).chunk(2, dim=1)
                optimizer.zero_grad()
                (
                    _entropy(rises, moved[rows], told[rows]) + SQUARED_ERRORS * _error(intensities, changes[rows])
                ).backward()
                optimizer.step()
                schedule.step()
    return first, last


def _entropy(rises: Tensor, moved: Tensor, told: Tensor) -> Tensor:
    """Return the cross-entropy of moved units, as a sum over the units of means over what is told; all are [B, 12]."""
    losses = F.binary_cross_entropy_with_logits(rises, moved, reduction="none")
    return ((losses * told).sum(dim=0) / told.sum(dim=0).clamp(min=1)).sum()


def _error(intensities: Tensor, changes: Tensor) -> Tensor:
    """Return the squared error of changes of intensity, as a sum over the units of means; both are [B, 12]."""
    return (intensities - changes).square().mean(dim=0).sum()


def measures(pairs: Pairs, compared: Compared) -> dict[str, float]:
    """Return means over the units for what was estimated of N pairs; NaN where one is undefined for a unit.

    * `auroc`: of rises in pairs in which a unit moves against such in which it does not
    * `r`: Pearson's, of the change of intensity with what is told
    """
    told, moved = pairs.told, pairs.moved
    units = range(len(ACTION_UNITS))
    ranks = [auroc(compared.rises[told[:, i], i], moved[told[:, i], i]) for i in units]
    correlations = [pearson(compared.values[:, i], pairs.changes[:, i]) for i in units]
    return {"auroc": float(np.mean(ranks)), "r": float(np.mean(correlations))}


def add_changes(
    run: Path, prepared: Sequence[Path], precision: CPUPrecision = "float32", estimator_of: str | None = None
) -> dict[str, float]:
    """Add a head and an estimator to a run, and limits to its calibration. Returns measures of validation faces.

    `estimator_of`: a bundle or a run whose head and estimator are taken, instead of fitting others.

    Raises BundleError, CheckpointError, DatasetError, ModuleNotFoundError without the extra `openvino`, and ValueError
    for too few validation faces at rest.
    """
    trained = load_extensible(run)
    evaluable = load_evaluable(run)
    sets = [_readable(evaluable, folder) for folder in prepared]
    reader = VectorReader(evaluable, precision)
    source: dict[str, int | str]
    if estimator_of is None:
        train = _pairs(reader, sets, "train")
        fitted, source = fit_changes(train), {"faces": len(train.intensities)}
    else:
        fitted, source = _fitted_changes(find_evaluable(estimator_of), trained.spec), {"fitted_to": EARLIER_NETWORK}
    validation = _pairs(reader, sets, "validation")
    measured = {"faces": len(validation.differences), **measures(validation, fitted(validation.differences))}
    described = {
        "sets": [asdict(faces.info) for faces, _ in sets],
        "precision": precision,
        "validation": measured,
        **source,
    }
    extended = replace(with_changes(trained, fitted), training={**trained.training, "unit_changes": described})
    calibration = read_calibration(run)
    limits = limits_at_rest(LevelReader(extended.build(), evaluable.input, calibration), sets)
    save_extended(run, extended, change_limits=limits)
    return measured


def _fitted_changes(earlier: Evaluable, spec: NetworkSpec) -> FittedChanges:
    """Return the head and the estimator of a network. Raises CheckpointError where it has none for such vectors."""
    estimator = read_estimator(earlier.network)
    if estimator is None or earlier.spec.vector_size != spec.vector_size:
        raise CheckpointError("the network whose estimator is to be kept does not tell changes by vectors of this size")
    weight = earlier.network.state_dict()["heads.unit_changes.weight"].double().numpy()
    return FittedChanges(Head(weight, np.zeros(len(weight))), estimator)


def with_changes(trained: TrainedNetwork, fitted: FittedChanges) -> TrainedNetwork:
    """Return the network with a head and an estimator of changes, in place of earlier ones."""
    layers = fitted.estimator
    hidden, outputs = layers.first.shape
    extended = with_head(trained, "unit_changes", fitted.head, EstimatorSpec(outputs, hidden))
    arrays = {"first.weight": layers.first, "first.bias": layers.bias, "last.weight": layers.last}
    weights = {f"estimator.{name}": torch.from_numpy(array).float() for name, array in arrays.items()}
    return replace(extended, weights={**extended.weights, **weights})


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
    parser.add_argument(
        "--estimator-of",
        metavar="MODEL",
        help="take the head and the estimator of this bundle or run, from whose weights the run's training went on; "
        "only the limits are fitted",
    )
    add_precision(parser)
    args = parser.parse_args()
    try:
        measured = add_changes(args.run, args.prepared, args.precision, args.estimator_of)
    except (BundleError, CheckpointError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    print(f"{measured['faces']} validation faces beside the same person at rest, means over the units:")
    print(f"AUROC {measured['auroc']:.3f}, r {measured['r']:.3f}")


if __name__ == "__main__":
    main()
