"""`python -m training.studies.reasons`: how much worse expressions are where there is a reason to doubt them.

The limits of model_core/faces/quality.py rest on it. Crops of a prepared set are disturbed at all strengths, and the
accuracy of those that have the reason is compared with that of the others. With the data set's own files (`--root`),
faces that look away from the camera are compared with the others as they are. Faces without a disturbance that have a
reason are false alarms.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.bundles.bundle import BundleError
from model_core.faces.alignment import TEMPLATE_SIZE, TEMPLATES, shrink
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Box, Crop
from model_core.faces.pose import head_pose
from model_core.faces.quality import (
    JUDGED_CROP,
    MAX_NOISE,
    MAX_OUTSIDE,
    MIN_FACE_PX,
    MIN_SHARPNESS,
    looks_away,
    noise,
    outside_share,
    sharpness,
)
from model_core.faces.refinement import placed_box
from training.data.perturbations import STRENGTHS, perturbations
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError, build_reader
from training.datasets.raw import SPLITS
from training.measuring.figures import write_figures
from training.measuring.scoring import collect
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.trained import Evaluable, load_for_measuring
from training.studies.robustness import chosen_faces, perturbed

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the crop's side that are cut off for `outside`."""

Flagged = NDArray[np.bool_]
"""bool [N]: True for the faces that have a reason."""

Version = tuple[PreparedFaces, Mapping[str, Flagged]]
"""Disturbed faces, and for each reason that the disturbance may give, the faces that have it."""


def study(evaluable: Evaluable, faces: PreparedFaces, root: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Return for each reason the accuracy with and without it, and its false alarms, as plain JSON values.

    Without `root` faces that look away are left out. Raises DatasetError.
    """
    clean = correct(evaluable, faces)
    judged: dict[str, list[tuple[Flagged, NDArray[np.bool_]]]] = {}
    for version, reasons in tqdm(disturbed(faces, seed), unit="disturbance"):
        right = correct(evaluable, version)
        for reason, flagged in reasons.items():
            judged.setdefault(reason, []).append((flagged, right))
    undisturbed = judged_crops(faces)
    alarms = {"blurred": blurred(undisturbed), "noisy": noisy(undisturbed)}
    table: dict[str, Any] = {}
    for reason, runs in judged.items():
        flagged, right = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        table[reason] = compared(flagged, right)
        if reason in alarms:
            table[reason]["false_alarms"] = float(alarms[reason].mean())
    if root is not None:
        seen, away = looking_away(faces, root)
        table["turned"] = compared(away[seen], clean[seen])
    return {
        "faces": {"dataset": faces.info.dataset, "split": str(faces.splits[0]), "count": len(faces), "seed": seed},
        "clean": float(clean.mean()),
        "reasons": table,
    }


def disturbed(faces: PreparedFaces, seed: int) -> Iterator[Version]:
    """Yield each version of the faces by which reasons are judged."""
    registry = perturbations(faces.info.alignment)
    for strength in STRENGTHS:
        coarse, soft, grainy = (
            perturbed(faces, registry[name], strength, seed) for name in ("resolution", "blur", "noise")
        )
        small = registry["resolution"].levels[strength - 1] < MIN_FACE_PX
        yield coarse, {"small": np.full(len(faces), small), "blurred": blurred(judged_crops(coarse))}
        yield soft, {"blurred": blurred(judged_crops(soft))}
        yield grainy, {"noisy": noisy(judged_crops(grainy))}
    for share in CUTS:
        cuts = [cut(crop, share, position % 4, faces.info.alignment) for position, crop in enumerate(faces.crops)]
        crops, flagged = zip(*cuts, strict=True)
        yield replace(faces, crops=np.stack(crops)), {"outside": np.array(flagged)}


def judged_crops(faces: PreparedFaces) -> list[Crop]:
    """Return the crops in the size in which the service judges them, uint8 [112, 112, 3] each."""
    _, size = JUDGED_CROP
    return [shrink(crop, size) for crop in faces.crops]


def correct(evaluable: Evaluable, faces: PreparedFaces) -> NDArray[np.bool_]:
    """Return bool [N]: True where the most probable expression is the majority's."""
    outputs = collect(evaluable.network, faces, np.arange(len(faces)), evaluable.input, torch.device("cpu"))
    assert outputs.expression is not None
    probabilities = evaluable.calibration.expression_probabilities(outputs.expression)
    return np.asarray(probabilities.argmax(axis=1) == faces.majority)


def blurred(crops: list[Crop]) -> Flagged:
    """Return bool [N] for crops of `judged_crops`."""
    return np.array([sharpness(crop) < MIN_SHARPNESS for crop in crops])


def noisy(crops: list[Crop]) -> Flagged:
    """Return bool [N] for crops of `judged_crops`."""
    return np.array([noise(crop) > MAX_NOISE for crop in crops])


def cut(crop: Crop, share: float, side: int, alignment: str) -> tuple[Crop, bool]:
    """Return a crop as if the frame ended at this share of it, and True if that leaves much of the face's box outside.

    `side` is 0 to 3: the upper, left, lower or right part is missing, and repeats the edge as in alignment.
    """
    length = round(share * crop.shape[0])
    turned = np.rot90(crop, -side).copy()
    turned[:length] = turned[length]
    box = placed_box((TEMPLATES[alignment] + 0.5) * crop.shape[0] / TEMPLATE_SIZE - 0.5, np.zeros(4))
    left = length if side == 1 else 0
    top = length if side == 0 else 0
    height = crop.shape[0] - (length if side in (0, 2) else 0)
    width = crop.shape[0] - (length if side in (1, 3) else 0)
    outside = outside_share(Box(box.x - left, box.y - top, box.width, box.height), (height, width))
    return np.rot90(turned, side).copy(), outside > MAX_OUTSIDE


def looking_away(faces: PreparedFaces, root: Path) -> tuple[NDArray[np.bool_], Flagged]:
    """Return which faces were found again in the data set's own pictures, and which look away: bool [N] each."""
    detector = build_detector("yuface")
    reader = build_reader(faces.info.dataset)
    records = {record.name: record for record in reader.faces(root)}
    seen = np.zeros(len(faces), dtype=bool)
    away = np.zeros(len(faces), dtype=bool)
    for position, name in enumerate(faces.names.tolist()):
        if name not in records:
            raise DatasetError(f"{root} has no picture {name}, which the prepared set has")
        frame = reader.load(records[name])
        for face in detector.detect(frame, min_confidence=faces.info.min_confidence, max_faces=1):
            seen[position] = True
            away[position] = looks_away(head_pose(face.landmarks))
    return seen, away


def compared(flagged: Flagged, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return counts and accuracies of the faces that have a reason and of the others; None where there are none."""
    row: dict[str, Any] = {}
    for name, inside in {"with": flagged, "without": ~flagged}.items():
        row[name] = {"count": int(inside.sum()), "accuracy": float(right[inside].mean()) if inside.any() else None}
    return row


def render(result: Mapping[str, Any]) -> str:
    """Return the study as text."""
    faces = result["faces"]
    lines = [
        f"{faces['dataset']} {faces['split']}: {faces['count']} faces that have a majority",
        f"undisturbed: accuracy {result['clean']:.3f}",
        f"{'reason':<10}{'with':>8}{'accuracy':>10}{'without':>9}{'accuracy':>10}{'false alarms':>14}",
    ]
    for name, row in result["reasons"].items():
        cells = [f"{name:<10}"]
        for part, width in (("with", 8), ("without", 9)):
            accuracy = row[part]["accuracy"]
            cells.append(
                f"{row[part]['count']:>{width}}" + ("         -" if accuracy is None else f"{accuracy:>10.3f}")
            )
        alarms = row.get("false_alarms")
        lines.append("".join(cells) + ("" if alarms is None else f"{alarms:>14.4f}"))
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.reasons", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--root", type=Path, help="folder of the data set's own files, to judge `turned`")
    parser.add_argument("--split", default="validation", choices=SPLITS)
    parser.add_argument("--limit", type=at_least(1), help="at most so many faces, chosen at random")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", type=Path, help="also write the study as JSON")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        require_parent(args.out)
        evaluable, faces = load_for_measuring(args.model, args.prepared)
        if "expression" not in evaluable.spec.tasks:
            raise DatasetError("the network has no expressions, which this measures")
        chosen = chosen_faces(faces, faces.indices(args.split), args.limit, args.seed)
        result = study(evaluable, chosen, args.root, args.seed)
    except (BundleError, CheckpointError, DatasetError, OSError) as error:
        fail(error)
    print(render(result))
    if args.out:
        write_figures(args.out, result)


if __name__ == "__main__":
    main()
