"""`python -m training.evaluate`: measure a bundle or a run on one split of a prepared set.

With `--table`, it shows what runs on video data reached under the ABAW challenge's protocol instead.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from model_core.bundles.bundle import BundleError
from model_core.models.clip import ClipError
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.measuring.answers import answers_of
from training.measuring.groups import measure_groups, read_groups
from training.measuring.report import MIN_CLASS_SIZE, Report, measure
from training.measuring.scoring import collect, require_finite
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import load_for_measuring
from training.video.evaluation import evaluate_run
from training.video.table import table_of_runs

_OF_PICTURES = ("model", "split", "groups", "group_by", "out", "plots")
_OF_VIDEO = ("root", "submission")
"""Arguments that mean something with `--prepared`, and with `--run`, only."""


def render(report: Report) -> str:
    """The report as text; a number's 95 % interval stands behind it in brackets."""
    faces = report.faces
    expression = report.expression
    within = report.intervals
    derived = faces.get("with_derived_targets")
    lines = [f"{faces['dataset']} {faces['split']}: {faces['found']} of {faces['count']} faces found"]
    if expression:
        lines += ["", f"expression, {expression['count']} faces with a majority (a face not found counts as wrong)"]
        lines += _lines(expression, within.get("expression", {}))
        lines += ["  F1 by class"]
        lines += _lines(expression["f1"], within.get("expression", {}).get("f1", {}))
    if report.valence_arousal:
        annotated = faces.get("with_annotated_valence_arousal")
        against = f"derived targets, {derived}" if annotated is None else f"annotated targets, {annotated}"
        lines += ["", f"valence-arousal against {against} faces"]
        lines += _lines(report.valence_arousal, within.get("valence_arousal", {}))
    if report.action_units:
        known = faces.get("with_known_action_units")
        against = f"the teacher, {derived}" if known is None else f"known intensities, {known}"
        lines += ["", f"action units against {against} faces", *_table(report.action_units)]
        if "action_units" in within:
            lines += ["  95 % intervals", *_table(within["action_units"])]
        lines += ["", *_mean_lines(report)]
    if report.groups:
        lines += ["", *_group_lines(report.groups)]
    return "\n".join(lines)


def _lines(values: Mapping[str, Any], within: Mapping[str, Any]) -> list[str]:
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    return [f"  {name:<26}{value:.4f}{_bracket(within.get(name))}" for name, value in numbers.items()]


def _bracket(interval: Sequence[float] | None) -> str:
    return f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""


def _table(units: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row a unit, a column a measure."""
    columns = list(dict.fromkeys(name for values in units.values() for name in values))
    cells = {unit: [_cell(values.get(name)) for name in columns] for unit, values in units.items()}
    width = 2 + max((len(cell) for row in cells.values() for cell in row), default=0)
    width = max(width, 12)
    head = "  unit  " + "".join(f"{name:>{width}}" for name in columns)
    return [head, *(f"  {unit:<6}" + "".join(f"{cell:>{width}}" for cell in row) for unit, row in cells.items())]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"[{value[0]:.3f}, {value[1]:.3f}]"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _mean_lines(report: Report) -> list[str]:
    """The means over units, and which units they leave out."""
    means, within = report.action_units_mean, report.intervals.get("action_units_mean", {})
    few = {name: unit["positives"] for name, unit in report.action_units.items() if name not in means["units"]}
    lines = [f"means over units with at least {MIN_CLASS_SIZE} positives"]
    lines += (
        [f"  not counted: {', '.join(f'{name} ({count} positives)' for name, count in few.items())}"] if few else []
    )
    names = {"pearson": "Pearson r", "auroc": "AUROC", "ece": "ECE", "f1": "F1 at threshold"}
    for key, name in names.items():
        if key in means:
            over = means["f1_units"] if key == "f1" else means["units"]
            lines += [f"  {name:<26}{means[key]:.4f}{_bracket(within.get(key))}  ({len(over)}: {', '.join(over)})"]
    return lines


def _group_lines(groups: Mapping[str, Any]) -> list[str]:
    lines = [f"by {groups['column']}; a number that rests on fewer than {groups['minimum']} faces is not given"]
    lines += [f"  macro F1 over {', '.join(groups['classes'])}; AUROC over {', '.join(groups['units'])}"]
    for name, values in groups["values"].items():
        lines += [f"  {name or '(empty)'}: {values['count']} faces"]
        lines += [f"  {line}" for line in _lines(values, values.get("intervals", {}))]
    return lines


def main() -> None:
    """Command line."""
    args = _arguments()
    try:
        if args.table:
            print(table_of_runs(args.table))
            return
        require_parent(args.out)
        if args.run:
            evaluate_run(args.run, args.root, args.resamples, args.submission)
            print(table_of_runs([args.run]))
            return
        evaluable, faces = load_for_measuring(args.model, args.prepared)
        rows = faces.indices(args.split)
        if not len(rows):
            raise DatasetError(f"{args.prepared} has no {args.split} faces")
        groups = read_groups(args.groups, args.group_by, faces.names[rows]) if args.groups else None
        outputs = collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu"))
        require_finite(outputs)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    report = measure(faces, rows, outputs, evaluable.calibration, args.resamples)
    answers = answers_of(faces, rows, outputs, evaluable.calibration)
    if groups is not None:
        report = replace(report, groups=measure_groups(answers, args.group_by, groups, args.resamples))
    print(render(report))
    if args.out:
        args.out.write_text(json.dumps(asdict(report), indent=2) + "\n")
    if args.plots:
        from training.measuring.plots import plot_reliability

        plot_reliability(answers, args.plots)


def _arguments() -> argparse.Namespace:
    parser = CommandParser(prog="python -m training.evaluate", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prepared", type=Path)
    what.add_argument(
        "--run", type=Path, help="a run on video data: the challenge's protocol, on its validation videos"
    )
    what.add_argument("--table", nargs="+", type=Path, metavar="RUN", help="runs' folders with a protocol.json; alone")
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument(
        "--resamples", default=1000, type=at_least(0), help="bootstrap resamples for intervals; 0: none"
    )
    parser.add_argument("--groups", type=Path, help="CSV file: `name` of a prepared record, and columns to group by")
    parser.add_argument("--group-by", metavar="COLUMN", help="also measure each value of this column of --groups")
    parser.add_argument("--out", type=Path, help="also write the report as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw reliability diagrams into this folder")
    parser.add_argument("--root", type=Path, help="with --run: where the data lies, if not where it was")
    parser.add_argument("--submission", type=Path, help="with --run: also write the challenge's file of answers")
    args = parser.parse_args()
    if args.table and any(value != parser.get_default(name) for name, value in vars(args).items() if name != "table"):
        parser.error("--table goes alone")
    for name in _OF_VIDEO if args.prepared else _OF_PICTURES:
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} goes with {'--run' if args.prepared else '--prepared'}")
    if (args.groups is None) != (args.group_by is None):
        parser.error("--groups and --group-by go together")
    return args


if __name__ == "__main__":
    main()
