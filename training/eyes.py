"""`python -m training.eyes`: teach a run's network to tell closed eyes, from what it has learned already.

The network stays as it is, and a linear head `eyes_closed` on its vectors is added to the run's `best.pt`. It is fitted
by logistic regression to the training faces of prepared sets: rendered ones, whose eyes are known, and others, as the
teacher reads them. Its calibration, fitted to their validation faces, is added to the run's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from model_core.calibration import UnitCalibration
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.measuring.closed_eyes import Eyes, eyes_in, measures
from training.measuring.fitting import MIN_POSITIVES, fit_unit, minimise, resting_threshold
from training.runs.added_heads import Head, VectorReader, add_precision, load_extensible, save_extended, with_head
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.config import CPUPrecision
from training.runs.trained import Evaluable, load_evaluable, require_alignment

FALSE_ALARMS = 0.01
"""Less than this share of the validation faces with open eyes is called closed, in each set."""

RIDGE = 1e-3
"""Penalty on the squared weights of vectors with a standard deviation of 1."""


@dataclass(frozen=True)
class SeenFaces:
    """The vectors of N faces of one data set whose eyes are closed or open."""

    vectors: NDArray[np.float64]
    """float64 [N, D]."""
    closed: NDArray[np.bool_]
    """bool [N]."""


def fit_head(sets: Sequence[SeenFaces]) -> Head:
    """Return the head that minimises the penalised cross-entropy; each data set has the same weight."""
    vectors = np.concatenate([each.vectors for each in sets])
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    x = torch.from_numpy((vectors - mean) / spread)
    y = torch.from_numpy(np.concatenate([each.closed for each in sets]).astype(np.float64))
    shares = torch.from_numpy(_equal_weights(sets)) / len(x)
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective() -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="none")
        return shares @ losses + RIDGE * weight.square().sum()

    minimise(objective, [weight, bias])
    own = weight.detach().numpy() / spread
    return Head(own[None], np.array([float(bias.detach()) - float(own @ mean)]))


def fit_calibration(head: Head, sets: Sequence[SeenFaces]) -> UnitCalibration:
    """Return Platt's scaling, with the lowest threshold that less than FALSE_ALARMS of open eyes reach anywhere."""
    logits = np.concatenate([head(each.vectors)[:, 0] for each in sets])
    fitted = fit_unit(logits, np.concatenate([each.closed for each in sets]), weights=_equal_weights(sets))
    opened = [fitted.probability(head(each.vectors)[~each.closed, 0]) for each in sets]
    return replace(fitted, threshold=max(resting_threshold(each, FALSE_ALARMS) for each in opened))


def _equal_weights(sets: Sequence[SeenFaces]) -> NDArray[np.float64]:
    """Return the faces' weights, with a mean of 1, by which every data set weighs the same."""
    sizes = [len(each.closed) for each in sets]
    return np.concatenate([np.full(size, sum(sizes) / len(sets) / size) for size in sizes])


def add_eyes(run: Path, prepared: Sequence[Path], precision: CPUPrecision = "float32") -> dict[str, dict[str, float]]:
    """Add the head and its calibration to a run. Returns measures of the validation faces of each data set, by name.

    Raises CheckpointError, DatasetError, and ModuleNotFoundError without the extra `openvino`.
    """
    trained = load_extensible(run)
    evaluable = load_evaluable(run)
    sets = [_readable(evaluable, folder) for folder in prepared]
    reader = VectorReader(evaluable, precision)
    train, validation = (_by_dataset(reader, sets, split) for split in ("train", "validation"))
    head = fit_head(list(train.values()))
    unit = fit_calibration(head, list(validation.values()))
    measured = {
        name: {"closed": int(each.closed.sum()), "open": int((~each.closed).sum())}
        | measures(head(each.vectors)[:, 0], each.closed, unit)
        for name, each in validation.items()
    }
    description = {
        "sets": [asdict(faces.info) for faces, _ in sets],
        "precision": precision,
        "validation": measured,
    }
    training = {**trained.training, "eyes_closed": description}
    extended = replace(with_head(trained, "eyes_closed", head), training=training)
    save_extended(run, extended, eyes_closed=unit)
    return measured


def _readable(evaluable: Evaluable, prepared: Path) -> tuple[PreparedFaces, Eyes]:
    """Read a set whose eyes are known. Raises DatasetError for others."""
    faces = load_prepared(prepared)
    require_alignment(evaluable, faces)
    eyes = eyes_in(prepared, faces)
    if eyes is None:
        raise DatasetError(f"{prepared} does not tell whose eyes are closed: it was prepared without --teacher")
    return faces, eyes


def _by_dataset(reader: VectorReader, sets: Sequence[tuple[PreparedFaces, Eyes]], split: Split) -> dict[str, SeenFaces]:
    """Return the faces of a split by the names of their data sets, of which several sets may be parts.

    Raises DatasetError where there are too few with closed or with open eyes.
    """
    chosen: dict[str, list[tuple[PreparedFaces, Eyes, NDArray[np.int64]]]] = {}
    for faces, eyes in sets:
        rows = faces.indices(split)
        rows = rows[faces.found[rows] & (eyes.closed | eyes.open)[rows]]
        chosen.setdefault(faces.info.dataset, []).append((faces, eyes, rows))
    closed = {name: np.concatenate([eyes.closed[rows] for _, eyes, rows in parts]) for name, parts in chosen.items()}
    for name, each in closed.items():
        if min(int(each.sum()), int((~each).sum())) < MIN_POSITIVES:
            raise DatasetError(f"{name}: fewer than {MIN_POSITIVES} {split} faces have closed eyes, or open ones")
    return {
        name: SeenFaces(
            np.concatenate([reader.vectors(faces, rows) for faces, _, rows in parts if len(rows)]), closed[name]
        )
        for name, parts in chosen.items()
    }


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.eyes", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt, on still pictures")
    parser.add_argument(
        "--prepared",
        required=True,
        nargs="+",
        type=Path,
        metavar="SET",
        help="prepared sets; all of one data set weigh as much as all of another",
    )
    add_precision(parser)
    args = parser.parse_args()
    try:
        measured = add_eyes(args.run, args.prepared, args.precision)
    except (CheckpointError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    for name, each in measured.items():
        print(f"{name}: {each['closed']} validation faces with closed eyes, {each['open']} with open ones")
        print(", ".join(f"{key} {each[key]:.3f}" for key in ("auroc", "recall", "false_alarms", "ece")))


if __name__ == "__main__":
    main()
