"""`python -m training.studies.robustness`: accuracy and calibration of expressions as crops get worse."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.bundles.bundle import BundleError
from model_core.faces.alignment import shrink
from model_core.faces.quality import sharpness
from model_core.metrics import top_label_ece
from training.data.perturbations import STRENGTHS, Perturbation, perturbations
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.measuring.figures import write_figures
from training.measuring.scoring import collect
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import Evaluable, load_for_measuring

SHARPNESS_EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def chosen_faces(faces: PreparedFaces, rows: NDArray[np.int64], limit: int | None, seed: int) -> PreparedFaces:
    """Return the found faces with a majority among `rows`, at most `limit` of them at random, with crops in memory."""
    kept = rows[faces.found[rows] & (faces.majority[rows] >= 0)]
    if limit is not None and limit < len(kept):
        kept = np.sort(np.random.default_rng(seed).choice(kept, limit, replace=False))
    if not len(kept):
        raise DatasetError("the split has no face that was found and has a majority")
    return faces.take(kept)


def study(evaluable: Evaluable, faces: PreparedFaces, seed: int = 0) -> dict[str, Any]:
    """Return accuracy and top-label calibration error of all `faces`, clean and perturbed, as plain JSON values.

    The random part of a perturbation, such as its direction or place, is drawn for each face from `seed` and the face's
    position, and is the same at all strengths.
    """
    clean = _Answers(evaluable, faces)
    softened: list[_Answers] = []
    curves: dict[str, Any] = {}
    registry = perturbations(evaluable.input.alignment)
    for name, perturbation in tqdm(registry.items(), unit="perturbation"):
        runs = [_Answers(evaluable, perturbed(faces, perturbation, strength, seed)) for strength in STRENGTHS]
        curves[name] = {"unit": perturbation.unit, "levels": list(perturbation.levels)}
        curves[name] |= {"accuracy": [run.accuracy for run in runs], "ece": [run.ece for run in runs]}
        softened += runs if perturbation.softens else []
    softening = " and ".join(name for name, perturbation in registry.items() if perturbation.softens)
    return {
        "faces": {"dataset": faces.info.dataset, "split": str(faces.splits[0]), "count": len(faces), "seed": seed},
        "clean": {"accuracy": clean.accuracy, "ece": clean.ece},
        "perturbations": curves,
        "sharpness": {"clean": by_sharpness([clean]), softening: by_sharpness([clean, *softened])},
    }


def perturbed(faces: PreparedFaces, perturbation: Perturbation, strength: int, seed: int) -> PreparedFaces:
    """Return the same faces with changed crops."""
    crops = [
        perturbation(crop, strength, np.random.default_rng((seed, position)))
        for position, crop in enumerate(faces.crops)
    ]
    return replace(faces, crops=np.stack(crops))


class _Answers:
    """The answers for one version of N crops: correct, bool [N], beside the crops' sharpness, float64 [N]."""

    def __init__(self, evaluable: Evaluable, faces: PreparedFaces) -> None:
        rows, spec = np.arange(len(faces)), evaluable.input
        outputs = collect(evaluable.network, faces, rows, spec, torch.device("cpu"))
        assert outputs.expression is not None
        probabilities = evaluable.calibration.expression_probabilities(outputs.expression)
        self.correct = probabilities.argmax(axis=1) == faces.majority
        self.accuracy = float(self.correct.mean())
        self.ece = top_label_ece(probabilities, faces.majority)
        # Measured on the network's input, as the service does.
        self.sharpness = np.array([sharpness(shrink(crop, spec.size)) for crop in faces.crops])


def by_sharpness(runs: Sequence[_Answers]) -> list[dict[str, Any]]:
    """Return count and accuracy in each bin of sharpness, [from, to), that holds a crop."""
    values = np.concatenate([run.sharpness for run in runs])
    correct = np.concatenate([run.correct for run in runs])
    table = []
    for low, high in pairwise(SHARPNESS_EDGES):
        inside = (values >= low) & (values < high)
        if inside.any():
            accuracy = float(correct[inside].mean())
            table.append({"from": low, "to": high, "count": int(inside.sum()), "accuracy": accuracy})
    return table


def render(result: Mapping[str, Any]) -> str:
    """Return the study as text: the levels, accuracy and calibration error of each perturbation."""
    faces, clean = result["faces"], result["clean"]
    lines = [f"{faces['dataset']} {faces['split']}: {faces['count']} faces found that have a majority"]
    lines += [f"clean: accuracy {clean['accuracy']:.3f}, ECE {clean['ece']:.3f}"]
    for name, curve in result["perturbations"].items():
        lines += [f"{name} ({curve['unit']})", "  level    " + "".join(f"{level:>8g}" for level in curve["levels"])]
        for measure in ("accuracy", "ece"):
            lines += [f"  {measure:<9}" + "".join(f"{value:>8.3f}" for value in curve[measure])]
    for name, table in result["sharpness"].items():
        lines += [f"sharpness, crops: {name}"]
        lines += [f"  {row['from']:.3f} to {row['to']:.3f}{row['count']:>8}{row['accuracy']:>8.3f}" for row in table]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.robustness", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--split", default="validation", choices=SPLITS)
    parser.add_argument("--limit", type=at_least(1), help="at most so many faces, chosen at random")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", type=Path, help="also write the study as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw the curves into this folder")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        evaluable, faces = load_for_measuring(args.model, args.prepared)
        if "expression" not in evaluable.spec.tasks:
            raise DatasetError("the network has no expressions, which this measures")
        chosen = chosen_faces(faces, faces.indices(args.split), args.limit, args.seed)
    except (BundleError, CheckpointError, DatasetError, OSError) as error:
        fail(error)
    result = study(evaluable, chosen, args.seed)
    print(render(result))
    if args.out:
        write_figures(args.out, result)
    if args.plots:
        from training.measuring.plots import plot_robustness

        plot_robustness(result, args.plots)


if __name__ == "__main__":
    main()
