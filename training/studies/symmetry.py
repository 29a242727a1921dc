"""`python -m training.studies.symmetry`: how far answers change when a face is mirrored or lies a few pixels beside.

A prepared set holds aligned crops and not their pictures, so that a shifted picture cannot be aligned anew: the crop is
shifted, and pixels from outside are replicated from the edge, as in alignment. In the service alignment takes away what
it sees of a shift: `training.studies.shifts` shifts pictures. The figures here tell what misplaced landmarks cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, Task
from model_core.bundles.bundle import BundleError
from model_core.calibration import AXES, Calibration
from model_core.faces.alignment import TEMPLATE_SIZE
from model_core.faces.geometry import Crop
from model_core.models.clip import ClipError
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import SPLITS
from training.measuring.figures import write_figures
from training.measuring.scoring import collect, require_finite
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import Evaluable, load_for_measuring

SHIFTS = tuple(range(1, 9))
"""Distances of the shifts in pixels of a crop of 112."""


def found_faces(faces: PreparedFaces, rows: NDArray[np.int64], limit: int | None, seed: int) -> PreparedFaces:
    """Return the found faces among `rows`, at most `limit` of them at random. Raises DatasetError if there are none."""
    kept = rows[faces.found[rows]]
    if limit is not None and limit < len(kept):
        kept = np.sort(np.random.default_rng(seed).choice(kept, limit, replace=False))
    if not len(kept):
        raise DatasetError("the split has no face that was found")
    return faces.take(kept)


def mirrored(faces: PreparedFaces) -> PreparedFaces:
    """Return the mirror images of the faces."""
    return replace(faces, crops=np.ascontiguousarray(faces.crops[:, :, ::-1]))


def shifted(faces: PreparedFaces, distance_px: float, seed: int) -> PreparedFaces:
    """Return the faces beside their places, each in a direction that is drawn from `seed`, its position and distance.

    `distance_px` is in pixels of a crop of 112.
    """
    crops = [
        _shifted(crop, distance_px, float(np.random.default_rng((seed, position, round(distance_px))).uniform(0, 2)))
        for position, crop in enumerate(faces.crops)
    ]
    return replace(faces, crops=np.stack(crops))


def _shifted(crop: Crop, distance_px: float, half_turns: float) -> Crop:
    side = crop.shape[0]
    distance = distance_px * side / TEMPLATE_SIZE
    matrix = np.array(
        [[1, 0, distance * np.cos(np.pi * half_turns)], [0, 1, distance * np.sin(np.pi * half_turns)]], np.float64
    )
    return np.asarray(cv2.warpAffine(crop, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def study(evaluable: Evaluable, faces: PreparedFaces, seed: int = 0) -> dict[str, Any]:
    """Return how far the answers for `faces` change, as plain JSON values.

    * `mirror`: mean absolute differences between a face and its mirror image
    * `shift`: means over faces of the standard deviation of an answer over the face and its shifts by 1 to 8 pixels
    * `flips`: shares of the faces in which a unit is active in one and not in the other: the mirror image, or any shift
    """
    plain = _answers(evaluable, faces)
    mirror = _answers(evaluable, mirrored(faces))
    shifts = [_answers(evaluable, shifted(faces, distance, seed)) for distance in SHIFTS]
    labels = faces.info.labels
    differences = {task: np.abs(values - mirror[task]) for task, values in plain.items()}
    deviations = {task: np.std([values, *(each[task] for each in shifts)], axis=0) for task, values in plain.items()}
    result: dict[str, Any] = {
        "faces": {"dataset": faces.info.dataset, "split": str(faces.splits[0]), "count": len(faces), "seed": seed},
        "mirror": by_name(differences, labels),
        "shift": by_name(deviations, labels),
    }
    if "action_units" in plain:
        limits = np.array([evaluable.calibration.unit(name).threshold for name in ACTION_UNITS])
        active = [each["action_units"] >= limits for each in (plain, mirror, *shifts)]
        result["flips"] = {
            "mirror": _by_unit((active[0] != active[1]).mean(axis=0)),
            "shift": _by_unit(np.any([active[0] != each for each in active[2:]], axis=0).mean(axis=0)),
        }
    return result


def by_name(changes: Mapping[Task, NDArray[np.float64]], labels: tuple[str, ...]) -> dict[Task, dict[str, float]]:
    """Return the mean changes of each task's answers, float64 [N, D], by the answers' names."""
    names: dict[Task, tuple[str, ...]] = {
        "expression": labels,
        "action_units": tuple(ACTION_UNITS),
        "valence_arousal": AXES,
    }
    means = {task: values.mean(axis=0).tolist() for task, values in changes.items()}
    return {task: dict(zip(names[task], values, strict=True)) for task, values in means.items()}


def _by_unit(values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(ACTION_UNITS, values.tolist(), strict=True))


def _answers(evaluable: Evaluable, faces: PreparedFaces) -> dict[Task, NDArray[np.float64]]:
    outputs = collect(evaluable.network, faces, np.arange(len(faces)), evaluable.input, torch.device("cpu"))
    require_finite(outputs)
    return calibrated(vars(outputs), evaluable.calibration)


def calibrated(outputs: Mapping[str, Any], calibration: Calibration) -> dict[Task, NDArray[np.float64]]:
    """Return the answers of each task that has outputs, float64 [N, D]; raw values are float64 [N, D] or None."""
    transforms: dict[Task, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "expression": calibration.expression_probabilities,
        "action_units": calibration.unit_probabilities,
        "valence_arousal": calibration.valence_arousal_estimates,
    }
    return {task: transform(outputs[task]) for task, transform in transforms.items() if outputs[task] is not None}


def render(result: Mapping[str, Any]) -> str:
    """Return the study as text: a row for each answer."""
    faces = result["faces"]
    lines = [f"{faces['dataset']} {faces['split']}: {faces['count']} faces found"]
    lines += ["mirror: mean absolute difference from the mirror image's answer"]
    lines += [f"shift: standard deviation over the crop and its shifts by 1 to {SHIFTS[-1]} of {TEMPLATE_SIZE} pixels"]
    lines += ["flips: share of faces in which the unit is active in one and not in the other"]
    lines += [f"  {'':<12}{'mirror':>10}{'shift':>10}{'flips: mirror':>16}{'any shift':>12}"]
    flips = result.get("flips", {"mirror": {}, "shift": {}})
    for task, values in result["mirror"].items():
        for name, value in values.items():
            row = f"  {name:<12}{value:>10.4f}{result['shift'][task][name]:>10.4f}"
            if name in flips["mirror"]:
                row += f"{flips['mirror'][name]:>16.4f}{flips['shift'][name]:>12.4f}"
            lines.append(row)
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.symmetry", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--split", default="validation", choices=SPLITS)
    parser.add_argument("--limit", type=at_least(1), help="at most so many faces, chosen at random")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", type=Path, help="also write the study as JSON")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        evaluable, faces = load_for_measuring(args.model, args.prepared)
        chosen = found_faces(faces, faces.indices(args.split), args.limit, args.seed)
        result = study(evaluable, chosen, args.seed)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    print(render(result))
    if args.out:
        write_figures(args.out, result)


if __name__ == "__main__":
    main()
