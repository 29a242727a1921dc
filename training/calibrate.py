"""`python -m training.calibrate`: fit a run's calibration and thresholds on faces that it was not trained on.

With `--rest`, the limits of changes against a person's own baseline are fitted as well, on the validation people of a
set of rendered faces.
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import BundleError
from model_core.calibration import Calibration
from model_core.models.clip import ClipError
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.measuring.fitting import ThresholdSearch, fit_axes, fit_expression, fit_unit
from training.measuring.resting import LevelReader, fit_limits, read_sittings, rises_at_rest
from training.measuring.scoring import Outputs, collect, require_finite
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.trained import Evaluable, load_evaluable, require_alignment, require_match, write_calibration
from training.video.trained import fit_sequences, load_sequences


def fit(faces: PreparedFaces, outputs: Outputs, search: ThresholdSearch = "sorted") -> Calibration:
    """Fit every task that the outputs hold: expressions on the majority set, others where they have targets."""
    expression = None
    units = None
    axes = None
    if outputs.expression is not None:
        actual = faces.majority[outputs.rows]
        expression = fit_expression(outputs.expression[actual >= 0], actual[actual >= 0])
    with_units = faces.with_action_units[outputs.rows]
    if outputs.action_units is not None and with_units.any():
        positive = faces.units_present[outputs.rows][with_units]
        logits = outputs.action_units[with_units]
        units = {name: fit_unit(logits[:, i], positive[:, i], search) for i, name in enumerate(ACTION_UNITS)}
    known = faces.with_valence_arousal[outputs.rows]
    if outputs.valence_arousal is not None and known.any():
        reference = faces.valence_arousal[outputs.rows][known].astype(np.float64)
        axes = fit_axes(outputs.valence_arousal[known], reference)
    return Calibration(expression, units, axes)


def with_limits(evaluable: Evaluable, calibration: Calibration, prepared: Path) -> Calibration:
    """Add the limits of changes, fitted on the validation people of a prepared set of rendered faces, at rest.

    Raises DatasetError for another set, ValueError for too few faces or outputs that are not finite.
    """
    faces = load_prepared(prepared)
    require_alignment(evaluable, faces)
    reader = LevelReader(evaluable.network, evaluable.input, calibration)
    rises = rises_at_rest(reader, faces, read_sittings(prepared, faces), "validation")
    return replace(calibration, change_limits=fit_limits(rises, reader.comparison.names))


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt")
    parser.add_argument("--prepared", type=Path, help="for a run on still pictures: the prepared set")
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
    try:
        calibration, fitted_on = _fit(args.run, args.prepared, args.rest, args.root, args.thresholds)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    write_calibration(args.run, calibration)
    print(f"fitted on {fitted_on}: {args.run / 'calibration.json'}")


def _fit(
    run: Path, prepared: Path | None, rest: Path | None, root: Path | None, search: ThresholdSearch
) -> tuple[Calibration, str]:
    """The calibration of a run, and what it was fitted on."""
    model = load_sequences(run, root)
    if model is not None:
        if rest is not None:
            raise DatasetError("--rest is for a run on still pictures: rendered faces do not move")
        return fit_sequences(model, search), "the videos held out of training"
    if prepared is None:
        raise DatasetError("a run on still pictures is calibrated with --prepared")
    faces, evaluable = load_prepared(prepared), load_evaluable(run)
    require_match(evaluable, faces)
    rows = faces.indices("validation")
    outputs = collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu"))
    require_finite(outputs)
    calibration, fitted_on = fit(faces, outputs, search), f"{len(rows)} validation faces"
    if rest is None:
        return calibration, fitted_on
    return with_limits(evaluable, calibration, rest), f"{fitted_on}, and limits of changes on {rest}"


if __name__ == "__main__":
    main()
