"""`python -m training.studies.agreement`: the answers and the speed of every engine and number format.

All of them run the same network on the same crops, and read faces as the network's input says, which is with their
mirror images where a bundle does; PyTorch in float32 is the reference.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.bundles.bundle import BundleError
from model_core.inference.encoder import answers_to
from model_core.inference.networks import cpu_runtimes
from model_core.inference.runtimes import CPU_OPTIONS, Runtime
from model_core.preprocessing import Images, InputSpec
from training.data.batches import evaluation_batches
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail
from training.runs.trained import Evaluable, load_for_measuring

BATCH = 32


def compare(evaluable: Evaluable, faces: PreparedFaces, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return accuracy, milliseconds a face and differences of probabilities for each of CPU_OPTIONS.

    The first is the reference. `rows`: int64 [N], records with a face; accuracy is over those with a majority. The ways
    take turns in each batch.
    Raises ModuleNotFoundError where an engine is not installed.
    """
    spec = evaluable.input
    runtimes = cpu_runtimes(evaluable.network, ("expression",), spec.size)
    seconds: list[list[float]] = [[] for _ in CPU_OPTIONS]
    logits: list[list[NDArray[np.float64]]] = [[] for _ in CPU_OPTIONS]
    for batch in evaluation_batches(faces, rows, spec, BATCH):
        for way, runtime in enumerate(runtimes):
            found, taken = _timed(runtime, batch.images.numpy(), spec)
            logits[way].append(found)
            seconds[way].append(taken / len(found))
    probabilities = [evaluable.calibration.expression_probabilities(np.concatenate(found)) for found in logits]
    majority = faces.majority[rows]
    return [
        {"engine": way.engine, "precision": way.precision, "ms_a_face": 1000 * median(seconds[i])}
        | _differences(probabilities[i], probabilities[0], majority)
        for i, way in enumerate(CPU_OPTIONS)
    ]


def _timed(runtime: Runtime, images: Images, spec: InputSpec) -> tuple[NDArray[np.float64], float]:
    started = time.perf_counter()
    return answers_to(images, spec, runtime), time.perf_counter() - started


def _differences(
    found: NDArray[np.float64], reference: NDArray[np.float64], majority: NDArray[np.int64]
) -> dict[str, float]:
    """Return accuracy, the share of faces with the reference's label, and the changes of probabilities.

    `mean_change` is over all probabilities, `change_999` the 99.9th percentile of each face's largest change.
    """
    change = np.abs(found - reference).max(axis=1)
    labels, kept = found.argmax(axis=1), majority >= 0
    return {
        "accuracy": float((labels == majority)[kept].mean()),
        "agreement": float((labels == reference.argmax(axis=1)).mean()),
        "mean_change": float(np.abs(found - reference).mean()),
        "change_999": float(np.quantile(change, 0.999)),
    }


def render(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as a table, with speed as a ratio to the reference."""
    head = "engine    precision   ms/face  times faster  accuracy  same label  mean change  99.9th percentile"
    reference = results[0]["ms_a_face"]
    return "\n".join(
        [head]
        + [
            f"{r['engine']:<9} {r['precision']:<9} {r['ms_a_face']:>9.2f} {reference / r['ms_a_face']:>13.2f} "
            f"{r['accuracy']:>9.4f} {r['agreement']:>11.4f} {r['mean_change']:>12.5f} {r['change_999']:>18.4f}"
            for r in results
        ]
    )


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.agreement", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--limit", type=at_least(1), help="only the first faces")
    args = parser.parse_args()
    try:
        evaluable, faces = load_for_measuring(args.model, args.prepared)
        if "expression" not in evaluable.spec.tasks:
            raise DatasetError("the network has no expressions, which this compares")
        rows = faces.indices(args.split)
        rows = rows[faces.found[rows]][: args.limit]
        print(render(compare(evaluable, faces, rows)))
    except (BundleError, CheckpointError, DatasetError, ModuleNotFoundError) as error:
        fail(error)


if __name__ == "__main__":
    main()
