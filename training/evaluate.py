"""`python -m training.evaluate`: measure a bundle or a run on one split of a prepared set.

With `--table`, it shows what runs on video data reached under the ABAW challenge's protocol instead.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from model_core.bundles.bundle import BundleError
from model_core.models.clip import ClipError
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.measuring.answers import answers_of
from training.measuring.closed_eyes import eyes_in, measure_closed_eyes
from training.measuring.figures import write_figures
from training.measuring.groups import measure_groups, read_groups
from training.measuring.rendered import measure_rendered, people_of, pictures_of
from training.measuring.report import measure
from training.measuring.report_text import render
from training.measuring.scoring import collect, estimator_of, require_finite
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import load_for_measuring
from training.video.evaluation import evaluate_run
from training.video.table import table_of_runs

_OF_PICTURES = ("model", "split", "groups", "group_by", "out", "plots")
_OF_VIDEO = ("root", "submission")
"""Arguments that mean something with `--prepared`, and with `--run`, only."""


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
        pictures = pictures_of(args.prepared, faces.names[rows]) if faces.info.rendered else None
        eyes = eyes_in(args.prepared, faces) if "eyes_closed" in evaluable.spec.tasks else None
        groups = read_groups(args.groups, args.group_by, faces.names[rows]) if args.groups else None
        outputs = collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu"))
        require_finite(outputs)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    people = None if pictures is None else people_of(pictures)
    report = measure(faces, rows, outputs, evaluable.calibration, args.resamples, people)
    answers = answers_of(faces, rows, outputs, evaluable.calibration, estimator_of(evaluable.network))
    if pictures is not None:
        report = replace(report, rendered=measure_rendered(answers, pictures, args.resamples))
    if eyes is not None and outputs.eyes_closed is not None:
        report = replace(report, eyes_closed=measure_closed_eyes(outputs, eyes, evaluable.calibration, args.resamples))
    if groups is not None:
        report = replace(report, groups=measure_groups(answers, args.group_by, groups, args.resamples, people))
    print(render(report))
    if args.out:
        write_figures(args.out, asdict(report))
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
