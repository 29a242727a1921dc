"""`python -m training.studies.failures`: the weakest level of each perturbation that changes a face's expression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.bundles.bundle import BundleError
from model_core.faces.alignment import align
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Crop
from training.data.batches import image_batch
from training.data.mirror_images import logits_of
from training.data.perturbations import STRENGTHS, perturbations
from training.datasets import DatasetError
from training.datasets.pictures import read_picture
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.trained import Evaluable, find_evaluable


@dataclass(frozen=True)
class Answer:
    """A crop with its most probable expression."""

    crop: Crop
    label: str
    probability: float
    change: str
    """Perturbation of the crop, and its level."""


def find_failures(evaluable: Evaluable, crop: Crop, seed: int = 0) -> tuple[Answer, Sequence[Answer], Sequence[str]]:
    """Return the answer for the face, that for the weakest level of each perturbation that changes it, and the others.

    The last are the names of perturbations that change it at no level. crop: uint8 [size, size, 3] RGB, of the
    network's size.
    """
    [own] = _answers(evaluable, {"as it is": crop})
    failures, held = [], []
    for name, perturbation in perturbations(evaluable.input.alignment).items():
        changed = {
            f"{name.replace('_', ' ')} {level:g}": perturbation(crop, strength, np.random.default_rng(seed))
            for strength, level in zip(STRENGTHS, perturbation.levels, strict=True)
        }
        weakest = next((each for each in _answers(evaluable, changed) if each.label != own.label), None)
        if weakest:
            failures.append(weakest)
        else:
            held.append(name)
    return own, failures, held


@torch.inference_mode()
def _answers(evaluable: Evaluable, changed: Mapping[str, Crop]) -> list[Answer]:
    """Return the answers for crops by their change."""
    logits = logits_of(evaluable.network, image_batch(list(changed.values()), evaluable.input), evaluable.input)
    assert logits.expression is not None
    probabilities: NDArray[np.float64] = evaluable.calibration.expression_probabilities(
        logits.expression.double().numpy()
    )
    return [
        Answer(crop, evaluable.spec.labels[best], float(row[best]), change)
        for (change, crop), row in zip(changed.items(), probabilities, strict=True)
        for best in [int(row.argmax())]
    ]


def read_face(path: Path, evaluable: Evaluable, detector: str) -> Crop:
    """Return the largest face of a picture, aligned as the network needs it. Raises DatasetError."""
    frame = read_picture(path)
    faces = build_detector(detector).detect(frame, max_faces=1)
    if not faces:
        raise DatasetError(f"{path} shows no face")
    return align(frame, faces[0].landmarks, evaluable.input.alignment, evaluable.input.size)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.failures", description=__doc__)
    parser.add_argument("--picture", required=True, type=Path, help="with a face that may be shown")
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--detector", default="yuface", help="yuface, mtcnn or yunet:PATH")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw failures.png into this folder")
    args = parser.parse_args()
    try:
        evaluable = find_evaluable(args.model)
        if "expression" not in evaluable.spec.tasks:
            raise DatasetError("the network has no expressions, which this shows")
        own, failures, held = find_failures(evaluable, read_face(args.picture, evaluable, args.detector))
    except (BundleError, CheckpointError, DatasetError, ModuleNotFoundError, ValueError) as error:
        fail(error)
    for answer in (own, *failures):
        print(f"{answer.change:<28}{answer.label:<12}{answer.probability:.2f}")
    print(f"the same at all strengths: {', '.join(held)}")
    if args.plots:
        from training.measuring.plots import plot_failures

        plot_failures([(answer.crop, _title(answer)) for answer in (own, *failures)], args.plots)


def _title(answer: Answer) -> str:
    return f"{answer.change}\n{answer.label} {answer.probability:.2f}"


if __name__ == "__main__":
    main()
