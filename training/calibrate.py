"""`python -m training.calibrate`: fit a run's calibration and thresholds on faces that it was not trained on.

With `--rest`, the limits of changes against a person's own baseline are fitted as well, on the validation people of a
set of rendered faces.
"""

from argparse import ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.bundles.bundle import BundleError
from model_core.calibration import Calibration, ChangeLimits
from model_core.models.clip import ClipError
from training.data.degraded import degraded
from training.data.mixture import Source
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.measuring.calibration_sets import RESTING_SHARE, CalibrationSet, describe, fit_sets
from training.measuring.fitting import ThresholdSearch
from training.measuring.rendered import pictures_of
from training.measuring.resting import LevelReader, limits_at_rest, read_sittings
from training.measuring.scoring import Outputs, collect, require_finite
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail, share
from training.runs.trained import Evaluable, load_evaluable, require_alignment, require_match, write_calibration
from training.video.trained import fit_sequences, load_sequences


def fit(faces: PreparedFaces, outputs: Outputs, search: ThresholdSearch = "sorted") -> Calibration:
    """Fit every task that the outputs hold: expressions on the majority set, others where they have targets."""
    return fit_sets([CalibrationSet(Source(faces.info.dataset, faces), outputs)], search)


def with_limits(evaluable: Evaluable, calibration: Calibration, prepared: Path) -> Calibration:
    """Add the limits of changes, fitted on the validation people of a prepared set of rendered faces, at rest.

    Raises DatasetError for another set, ValueError for too few faces or outputs that are not finite.
    """
    faces = load_prepared(prepared)
    require_alignment(evaluable, faces)
    reader = LevelReader(evaluable.network, evaluable.input, calibration)
    return replace(calibration, change_limits=limits_at_rest(reader, [(faces, read_sittings(prepared, faces))]))


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt")
    parser.add_argument(
        "--prepared",
        nargs="+",
        type=Path,
        default=[],
        metavar="SET",
        help="for a run on still pictures: the prepared sets, each of which weighs the same",
    )
    parser.add_argument("--weights", nargs="+", type=_positive, metavar="W", help="total weights of the prepared sets")
    parser.add_argument("--degraded", action="store_true", help="also fit on a randomly perturbed copy of each set")
    parser.add_argument(
        "--resting-share",
        type=share,
        metavar="SHARE",
        help="raise thresholds until less than this share of the neutral faces of each data set is active in any unit "
        f"(default: {RESTING_SHARE} with several sets or --degraded, else thresholds are not raised)",
    )
    parser.add_argument(
        "--rest",
        type=Path,
        metavar="PREPARED",
        help="for a run on still pictures: a prepared set of rendered faces, to fit the limits of changes against a "
        "person's own baseline on its faces at rest; without it answers do not tell whether a unit rose",
    )
    parser.add_argument("--root", type=Path, help="for a run on video data: where the data lies, if not where it was")
    parser.add_argument(
        "--thresholds",
        default="sorted",
        choices=get_args(ThresholdSearch),
        help="candidates for the units' thresholds: every score (sorted), or the paper's 0.1, 0.2 .. 0.9 (grid)",
    )
    args = parser.parse_args()
    if args.weights is not None and len(args.weights) != len(args.prepared):
        parser.error("--weights has a number for each of the prepared sets")
    try:
        calibration, fitted_on = _fit(args)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    write_calibration(args.run, calibration)
    print(f"fitted on {fitted_on}: {args.run / 'calibration.json'}")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a positive number")
    return value


def _fit(args: Namespace) -> tuple[Calibration, str]:
    """The calibration of a run, and what it was fitted on."""
    model = load_sequences(args.run, args.root)
    if model is not None:
        if args.rest is not None:
            raise DatasetError("--rest is for a run on still pictures: rendered faces do not move")
        return fit_sequences(model, args.thresholds), "the videos held out of training"
    if not args.prepared:
        raise DatasetError("a run on still pictures is calibrated with --prepared")
    evaluable = load_evaluable(args.run)
    weights = args.weights or [1.0] * len(args.prepared)
    sets: list[CalibrationSet] = []
    for prepared, weight in zip(args.prepared, weights, strict=True):
        sets += _read_set(evaluable, prepared, weight, args.degraded)
    resting_share = args.resting_share
    if resting_share is None and len(sets) > 1:
        resting_share = RESTING_SHARE
    calibration = fit_sets(sets, args.thresholds, resting_share)
    # Closed eyes were fitted with their head, and so were changes of units; limits of the axes change with the axes.
    earlier = evaluable.calibration
    kept = earlier.change_limits.action_units if "unit_changes" in evaluable.spec.tasks else None
    calibration = replace(calibration, eyes_closed=earlier.eyes_closed, change_limits=ChangeLimits(action_units=kept))
    count = sum(len(load_prepared(prepared).indices("validation")) for prepared in args.prepared)
    if len(sets) > 1:
        print("\n".join(describe(sets, calibration)))
    fitted_on = f"{count} validation faces"
    if args.rest is None:
        return calibration, fitted_on
    return with_limits(evaluable, calibration, args.rest), f"{fitted_on}, and limits of changes on {args.rest}"


def _read_set(evaluable: Evaluable, prepared: Path, weight: float, with_copy: bool) -> list[CalibrationSet]:
    """Return the validation faces of a prepared set, and where wanted their degraded copy, which share its weight.

    Where the run learned from several sets, what it learned from one of this data set is fitted on this one. Only
    the faces themselves bound thresholds, and not the copy.
    """
    faces = load_prepared(prepared)
    require_match(evaluable, faces)
    rows = faces.indices("validation")
    source = Source(prepared.name, faces, weight)
    for each in evaluable.training.get("sets", []):
        if each["prepared"]["dataset"] == faces.info.dataset:
            source = replace(source, tasks=tuple(each["tasks"]), trusted_units=tuple(each["trusted_units"]))
            break
    outputs = _outputs(evaluable, faces, rows)
    neutral = neutral_faces(faces, prepared, outputs.rows)
    if not with_copy:
        return [CalibrationSet(source, outputs, neutral)]
    copy = degraded(faces, rows)
    halved = replace(source, share=weight / 2)
    perturbed = replace(halved, name=f"{source.name}, degraded", faces=copy)
    copied = _outputs(evaluable, copy, np.arange(len(copy)))
    return [CalibrationSet(halved, outputs, neutral), CalibrationSet(perturbed, copied, copies=True)]


def _outputs(evaluable: Evaluable, faces: PreparedFaces, rows: NDArray[np.int64]) -> Outputs:
    outputs = collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu"))
    require_finite(outputs)
    return outputs


def neutral_faces(faces: PreparedFaces, prepared: Path, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return, for each record at `rows`, whether its face is neutral, bool [M].

    Rendered faces are where nothing is moved, others where the majority says so. Raises DatasetError where the table
    of a rendered set is missing.
    """
    if faces.info.rendered:
        return np.array([picture.kind == "neutral" for picture in pictures_of(prepared, faces.names[rows])])
    return np.asarray(faces.majority[rows] == faces.info.labels.index("neutral"))


if __name__ == "__main__":
    main()
