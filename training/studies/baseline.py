"""`python -m training.studies.baseline`: the gain of a person's own baseline, on rendered people and simulated tracks.

For each action unit, on the pictures of a split: how well its log-odds rank faces with and without the unit, and how
well its change does against the neutral picture of the same sitting; and how often it is told as active, or as risen,
where it moves alone and where the face is at rest. The limits are the model's, or are fitted on the validation people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.baseline import Comparison
from model_core.bundles.bundle import BundleError
from model_core.calibration import sigmoid
from model_core.metrics import auroc
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.datasets.raw import SPLITS, Split
from training.datasets.rendered import PRESENT
from training.measuring.figures import write_figures
from training.measuring.resting import LevelReader, Sittings, fit_limits, read_sittings, rises_at_rest
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import find_evaluable, require_alignment
from training.studies.baseline_tracks import ABSENT, STRONG, make_tracks, mean_defined, measure_tracks, share

Table = dict[str, dict[str, float]]
"""Figures by unit and name; NaN where there is nothing to measure."""


@dataclass(frozen=True)
class Column:
    """A figure of the table of units: its name, its heading, and its explanation."""

    name: str
    head: str
    meaning: str


COLUMNS = (
    Column("auroc", "auroc", f"AUROC of the log-odds, for a unit present from {PRESENT:g} on against one that is not"),
    Column("auroc_change", "change", "AUROC of the change against the neutral picture of the sitting"),
    Column("alone", "alone", f"pictures in which it moves alone, at {STRONG:g} and more"),
    Column("active_alone", "active", "share of these in which it is active by its threshold"),
    Column("rose_alone", "rose", "share of these in which it rose by its limit"),
    Column("active_at_rest", "active/0", "share of neutral pictures in which it is active"),
    Column("rose_at_rest", "rose/0", "share of faces at rest, other pictures and slightly changed ones, that rose"),
    Column("rose_in_other_picture", "rose/pic", "of these, another neutral picture of the sitting"),
    Column("rose_elsewhere", "rose/pose", "share that rose against a neutral picture in another pose and light"),
    Column("rose_with_others", "rose/oth", f"share that rose where others move and it is below {ABSENT:g}"),
)
"""The columns of the table of units."""


def measure_pictures(reader: LevelReader, faces: PreparedFaces, sittings: Sittings, split: Split) -> Table:
    """Return the figures of COLUMNS for each action unit. The reader's calibration must have limits of units."""
    rows = np.flatnonzero((faces.splits == split) & faces.found & (sittings.baseline >= 0))
    read = reader.read(faces.crops[rows])
    levels, log_odds = read.compared, read.log_odds
    first = np.searchsorted(rows, sittings.baseline[rows])
    compared = first != np.arange(len(rows))
    comparison = reader.comparison
    rises = comparison.compare(levels[first], levels).rises
    at_rest = rises_at_rest(reader, faces, sittings, split)
    elsewhere = _rises_elsewhere(comparison, levels[~compared], sittings.people[rows][~compared])
    table: Table = {}
    for unit, name in enumerate(ACTION_UNITS):
        column = comparison.names.index(name)
        known = faces.action_units[rows, unit].astype(np.float64)
        present = known >= PRESENT
        alone = (sittings.kinds[rows] == "single") & (known >= STRONG)
        others = ~sittings.neutral[rows] & (known < ABSENT)
        active = sigmoid(log_odds[:, unit]) >= reader.calibration.unit(name).threshold
        limit = comparison.limits[name]
        rose = rises[:, column] > limit
        table[name] = {
            "auroc": auroc(log_odds[compared, unit], present[compared]),
            "auroc_change": auroc(rises[compared, column], present[compared]),
            "alone": float(alone.sum()),
            "active_alone": share(active[alone]),
            "rose_alone": share(rose[alone]),
            "active_at_rest": share(active[sittings.neutral[rows]]),
            "rose_at_rest": share(at_rest.values[:, column] > limit),
            "rose_in_other_picture": share(at_rest.values[at_rest.other_picture, column] > limit),
            "rose_elsewhere": share(elsewhere[:, column] > limit),
            "rose_with_others": share(rose[others]),
        }
    return table


def _rises_elsewhere(
    comparison: Comparison, levels: NDArray[np.float64], people: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return the rises between the neutral pictures of different sittings of a person, float64 [P, K], both ways.

    `levels` are those of each sitting's neutral picture, float64 [M, L].
    """
    first, second = np.nonzero((people[:, None] == people) & ~np.eye(len(people), dtype=bool))
    return comparison.compare(levels[second], levels[first]).rises


def study(reader: LevelReader, faces: PreparedFaces, sittings: Sittings, split: Split, tracks: int) -> dict[str, Any]:
    """Return all figures as plain JSON values; where the reader has no limits, they are fitted on validation people."""
    limits = reader.calibration.change_limits
    fitted = limits.action_units is None
    if fitted:
        limits = fit_limits(rises_at_rest(reader, faces, sittings, "validation"), reader.comparison.names)
        reader = replace(reader, calibration=replace(reader.calibration, change_limits=limits))
    return {
        "split": split,
        "limits_fitted_here": fitted,
        "limits": vars(limits),
        "units": measure_pictures(reader, faces, sittings, split),
        "tracks": measure_tracks(reader, make_tracks(reader, faces, sittings, split, tracks)) if tracks else {},
    }


def render(result: Mapping[str, Any]) -> str:
    """Return the study as text."""
    origin = "fitted on the validation people" if result["limits_fitted_here"] else "the model's own"
    lines = [f"pictures of {result['split']}; limits of changes: {origin}"]
    lines.append("unit    limit" + "".join(f"{column.head:>10}" for column in COLUMNS))
    table = result["units"]
    for name, row in table.items():
        cells = "".join(f"{row[column.name]:>10.{0 if column.name == 'alone' else 3}f}" for column in COLUMNS)
        lines.append(f"{name:<5}{result['limits']['action_units'][name]:>8.2f}{cells}")
    means = [mean_defined([row[column.name] for row in table.values()]) for column in COLUMNS]
    lines.append("mean         " + "".join(f"{mean:>10.3f}" for mean in means))
    lines += [f"  {column.head:<10}{column.meaning}" for column in COLUMNS]
    if result["tracks"]:
        lines.append("simulated tracks, means over units")
        names = list(next(iter(result["tracks"].values())))
        lines.append("  baseline    " + "".join(f"{name:>16}" for name in names))
        for method, row in result["tracks"].items():
            lines.append(f"  {method:<12}" + "".join(f"{row[name]:>16.3f}" for name in names))
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.baseline", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path, help="a prepared set of rendered faces")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--tracks", type=at_least(0), default=150, help="simulated tracks; 0 leaves them out")
    parser.add_argument("--out", type=Path, help="also write the figures, and the limits, as JSON")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        evaluable, faces = find_evaluable(args.model), load_prepared(args.prepared)
        require_alignment(evaluable, faces)
        if "action_units" not in evaluable.spec.tasks:
            raise DatasetError("the network has no action units, which this measures")
        reader = LevelReader(evaluable.network, evaluable.input, evaluable.calibration)
        result = study(reader, faces, read_sittings(args.prepared, faces), args.split, args.tracks)
    except (BundleError, CheckpointError, DatasetError, OSError, ValueError) as error:
        fail(error)
    print(render(result))
    if args.out:
        write_figures(args.out, result)


if __name__ == "__main__":
    main()
