"""`python -m training.evaluate`: measure a bundle or a run on one split of a prepared set."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from model_core.bundle import BundleError, locate_bundle
from training.checkpoint import CheckpointError
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.prepared import load_prepared
from training.report import Report, measure
from training.scoring import collect
from training.trained import load_evaluable, require_match


def render(report: Report) -> str:
    """The report as text."""
    faces, expression, affect = report.faces, report.expression, report.valence_arousal
    lines = [f"{faces['dataset']} {faces['split']}: {faces['found']} of {faces['count']} faces found"]
    if expression:
        lines += ["", f"expression, {expression['count']} faces with a majority (a face not found counts as wrong)"]
        lines += [f"  {name:<26}{expression[name]:.4f}" for name in expression if isinstance(expression[name], float)]
        lines += ["  F1  " + "  ".join(f"{label} {value:.3f}" for label, value in expression["f1"].items())]
    if affect:
        lines += ["", f"valence-arousal against derived targets, {faces['with_derived_targets']} faces"]
        lines += [f"  {name:<26}{value:.4f}" for name, value in affect.items()]
    if report.action_units:
        lines += ["", f"action units against the teacher, {faces['with_derived_targets']} faces"]
        columns = list(dict.fromkeys(name for values in report.action_units.values() for name in values))
        lines += ["  unit  " + "".join(f"{name:>12}" for name in columns)]
        for unit, values in report.action_units.items():
            lines += [f"  {unit:<6}" + "".join(_cell(values.get(name)) for name in columns)]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'-':>12}"
    return f"{value:>12}" if isinstance(value, int) else f"{value:>12.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--out", type=Path, help="also write the report as JSON")
    args = parser.parse_args()
    try:
        run = Path(args.model)
        evaluable = load_evaluable(run if (run / "best.pt").is_file() else locate_bundle(args.model))
        faces = load_prepared(args.prepared)
        require_match(evaluable, faces)
    except (BundleError, CheckpointError, DatasetError) as error:
        sys.exit(f"error: {error}")
    rows = faces.indices(args.split)
    outputs = collect(evaluable.network, faces, rows, evaluable.input, torch.device("cpu"))
    report = measure(faces, rows, outputs, evaluable.calibration)
    print(render(report))
    if args.out:
        args.out.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
