"""`python -m training.precision`: how much a bundle's answers change in bfloat16, and whether it may be the default.

The bundle runs as it is served, on prepared crops, alone and in batches, in float32 and in bfloat16 by OpenVINO. With
`--record` the figures are written into the bundle's manifest, by which `AFFECT_PRECISION=auto` decides. The CPU must
compute in bfloat16: one that emulates it rounds at other places.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Affect
from model_core.baseline import Levels
from model_core.bundles.bundle import Bundle, BundleError, locate_bundle, open_bundle, record_gate
from model_core.bundles.manifest import PrecisionGate
from model_core.faces.alignment import shrink
from model_core.faces.geometry import Crop
from model_core.inference.openvino_runtime import has_bfloat16
from model_core.inference.predictor import Outputs, Predictor
from model_core.inference.runtimes import RuntimeOptions
from model_core.openvino_package import import_openvino
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import SPLITS, Split
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail
from training.runs.trained import load_for_measuring

BATCH_SIZES = (1, 32)
"""Faces that are answered together; OpenVINO compiles other code for one face than for many."""


@dataclass(frozen=True)
class Readings:
    """A bundle's answers for N faces."""

    estimates: NDArray[np.float64]
    """float64 [N, D]: valence, arousal, the probabilities of labels, units and closed eyes, and the units' changes of
    intensity against another face, as far as it has any."""

    labels: tuple[str, ...] | None
    """The N expression labels. None: the bundle has no expressions."""


def measure(
    bundle: Bundle, crops: Sequence[Crop], actual: Sequence[str | None], measured_on: str, threads: int | None = None
) -> PrecisionGate:
    """Return the differences of a bundle's answers in bfloat16 from those in float32.

    `crops`: uint8 [S, S, 3] RGB in the bundle's size, at least one. `actual`: the majority label of each face, or None.
    Raises as Predictor does.
    """
    exact = Predictor([bundle], "cpu", RuntimeOptions("openvino", "float32", threads))
    rounded = Predictor([bundle], "cpu", RuntimeOptions("openvino", "bfloat16", threads))
    outputs = _outputs(exact, crops, max(BATCH_SIZES))
    baseline = np.mean(exact.everything.levels(outputs), axis=0)
    reference = _read(exact, outputs, baseline)
    found = [_read(rounded, _outputs(rounded, crops, size), baseline) for size in BATCH_SIZES]
    differences = [_difference(each, reference, actual) for each in found]
    same_label, mean_change, change_999, accuracy_change = zip(*differences, strict=True)
    return PrecisionGate(
        precision="bfloat16",
        engine="openvino",
        engine_version=import_openvino().__version__,
        measured_on=measured_on,
        faces=len(crops),
        same_label=None if reference.labels is None else min(same_label),
        mean_change=max(mean_change),
        change_999=max(change_999),
        accuracy_change=None if reference.labels is None else max(accuracy_change),
    )


def _outputs(predictor: Predictor, crops: Sequence[Crop], batch_size: int) -> list[Outputs]:
    return [
        output
        for start in range(0, len(crops), batch_size)
        for output in predictor.outputs([[crop] for crop in crops[start : start + batch_size]])
    ]


def _read(predictor: Predictor, outputs: Sequence[Outputs], baseline: Levels) -> Readings:
    """Return the answers for raw outputs; `baseline` is what faces are compared with, the same for both precisions."""
    ensemble = predictor.everything
    affects = ensemble.affects(outputs)
    estimates = np.array([list(_estimates(affect)) for affect in affects])
    comparison = ensemble.comparison
    if comparison.estimator is not None:
        compared = comparison.compare(baseline, np.array(ensemble.levels(outputs)))
        estimates = np.concatenate(
            [estimates, compared.values[:, np.isin(comparison.names, list(ACTION_UNITS))]], axis=1
        )
    labels = tuple(affect.expression.label for affect in affects if affect.expression is not None)
    return Readings(estimates, labels or None)


def _estimates(affect: Affect) -> Iterator[float]:
    """Yield all numbers of an answer, in an order that depends on the bundle alone."""
    if affect.valence is not None and affect.arousal is not None:
        yield from (affect.valence, affect.arousal)
    if affect.expression is not None:
        yield from affect.expression.probabilities.values()
    if affect.action_units is not None:
        yield from (unit.probability for unit in affect.action_units.values())
    if affect.eyes_closed is not None:
        yield affect.eyes_closed.probability


def _difference(
    found: Readings, reference: Readings, actual: Sequence[str | None]
) -> tuple[float, float, float, float]:
    """Return the share of same labels, the mean and the 99.9th percentile of changes, and the accuracy's change."""
    change = np.abs(found.estimates - reference.estimates)
    tail = float(np.quantile(change.max(axis=1), 0.999))
    if found.labels is None or reference.labels is None:
        return 1.0, float(change.mean()), tail, 0.0
    same = np.mean([one == other for one, other in zip(found.labels, reference.labels, strict=True)])
    accuracies = [_accuracy(readings.labels, actual) for readings in (found, reference)]
    return float(same), float(change.mean()), tail, abs(accuracies[0] - accuracies[1])


def _accuracy(labels: Sequence[str] | None, actual: Sequence[str | None]) -> float:
    """Return the share of right labels among the faces with a majority label; 0 where there are none."""
    right = [label == truth for label, truth in zip(labels or (), actual, strict=True) if truth is not None]
    return float(np.mean(right)) if right else 0.0


def render(gate: PrecisionGate) -> str:
    """Return the figures as text, and the verdict."""
    engine = f"{gate.engine} {gate.engine_version}"
    lines = [f"{engine}: {gate.precision} beside float32 on {gate.faces} faces ({gate.measured_on})"]
    if gate.same_label is not None and gate.accuracy_change is not None:
        lines += [f"same label         {gate.same_label:.4f}", f"change of accuracy {gate.accuracy_change:.4f}"]
    lines += [
        f"mean change        {gate.mean_change:.5f}",
        f"99.9th percentile  {gate.change_999:.4f}",
        "the gate is passed" if gate.passed else "the gate is not passed: AFFECT_PRECISION=auto is float32",
    ]
    return "\n".join(lines)


def _chosen(faces: PreparedFaces, splits: Sequence[Split], limit: int | None) -> NDArray[np.int64]:
    """Return the records with a face in some splits, of each the first `limit`. Raises DatasetError for none."""
    by_split = [faces.indices(split) for split in splits]
    chosen = np.concatenate([rows[faces.found[rows]][:limit] for rows in by_split])
    if not len(chosen):
        raise DatasetError(f"the set of {faces.info.dataset} has no faces in {', '.join(splits)}")
    return chosen


def main() -> None:
    """Command line. Exits with 1 if the gate is not passed."""
    args = _arguments()
    try:
        if not has_bfloat16():
            raise ValueError("this CPU does not compute in bfloat16; measure on one that does")
        folder = locate_bundle(args.bundle)
        bundle = open_bundle(folder)
        crops: list[Crop] = []
        actual: list[str | None] = []
        names: list[str] = []
        for prepared in args.prepared:
            _, faces = load_for_measuring(str(folder), prepared)
            rows = _chosen(faces, args.splits, args.limit)
            crops += [shrink(faces.crops[row], bundle.manifest.input.size) for row in rows]
            actual += [faces.info.labels[label] if label >= 0 else None for label in faces.majority[rows]]
            names.append(f"{faces.info.dataset} {'+'.join(args.splits)}")
        gate = measure(bundle, crops, actual, ", ".join(names), args.threads)
        print(render(gate))
        if args.record:
            record_gate(folder, gate)
    except (BundleError, CheckpointError, DatasetError, ModuleNotFoundError, OSError, ValueError) as error:
        fail(error)
    if not gate.passed:
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = CommandParser(prog="python -m training.precision", description=__doc__)
    parser.add_argument("--bundle", default="default", help="a shipped bundle's name, or a bundle's folder")
    parser.add_argument("--prepared", required=True, nargs="+", type=Path, metavar="SET")
    parser.add_argument("--splits", nargs="+", default=["validation", "test"], choices=SPLITS)
    parser.add_argument("--limit", type=at_least(1), help="only the first faces of each split")
    parser.add_argument("--threads", type=at_least(1), help="CPU threads of a forward pass")
    parser.add_argument("--record", action="store_true", help="write the figures into the bundle's manifest")
    return parser.parse_args()


if __name__ == "__main__":
    main()
