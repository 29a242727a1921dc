"""`python -m training.studies.shifts`: how far answers change when a whole picture is shifted by a few pixels.

Each shifted picture is searched, refined and aligned anew, as the service does it. `training.studies.symmetry` shifts
the aligned crop instead.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.affect import Task
from model_core.bundles.bundle import BundleError
from model_core.faces.alignment import align
from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.geometry import Crop, Frame
from model_core.models.clip import ClipError
from training.data.batches import image_batch
from training.data.mirror_images import logits_of
from training.datasets import READERS, DatasetError, build_reader
from training.datasets.raw import SPLITS
from training.measuring.figures import write_figures
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent, share
from training.runs.trained import Evaluable, find_evaluable
from training.studies.symmetry import SHIFTS, by_name, calibrated


def shifted(frame: Frame, distance_px: int, rng: np.random.Generator) -> Frame:
    """Return a frame that is shifted by about a distance, by whole pixels, in a direction that is drawn.

    Pixels from outside repeat the edge.
    """
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.rint(distance_px * np.array([np.cos(angle), np.sin(angle)]))
    size = frame.shape[1::-1]
    moved = cv2.warpAffine(frame, np.array([[1, 0, x], [0, 1, y]]), size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def crops_of(
    frame: Frame, evaluable: Evaluable, detector: FaceDetector, min_confidence: float, rng: np.random.Generator
) -> list[Crop] | None:
    """Return the largest face of a picture, and of the picture shifted by each of SHIFTS; None if one shows no face."""
    crops = []
    for picture in (frame, *(shifted(frame, distance_px, rng) for distance_px in SHIFTS)):
        faces = detector.detect(picture, min_confidence=min_confidence, max_faces=1)
        if not faces:
            return None
        crops.append(align(picture, faces[0].landmarks, evaluable.input.alignment, evaluable.input.size))
    return crops


def study(
    evaluable: Evaluable, detector: FaceDetector, pictures: Iterable[Frame], min_confidence: float, seed: int
) -> dict[str, Any]:
    """Return how far the answers change, as plain JSON values. Raises DatasetError if no picture can be used.

    * `pictures`: the number of pictures that show a face in every shift
    * `deviations`: means over these of the standard deviation of an answer over a picture and its shifts
    """
    rng = np.random.default_rng(seed)
    found = (crops_of(frame, evaluable, detector, min_confidence, rng) for frame in pictures)
    each = [_deviations(evaluable, crops) for crops in found if crops is not None]
    if not each:
        raise DatasetError("no picture shows a face in all its shifts")
    stacked = {task: np.stack([deviations[task] for deviations in each]) for task in each[0]}
    return {"pictures": len(each), "deviations": by_name(stacked, evaluable.spec.labels)}


@torch.inference_mode()
def _deviations(evaluable: Evaluable, crops: Sequence[Crop]) -> dict[Task, NDArray[np.float64]]:
    """Return the standard deviation of each task's answers over crops, float64 [D]."""
    logits = logits_of(evaluable.network, image_batch(crops, evaluable.input), evaluable.input)
    values = {task: None if part is None else part.double().numpy() for task, part in vars(logits).items()}
    return {task: answers.std(axis=0) for task, answers in calibrated(values, evaluable.calibration).items()}


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.shifts", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--dataset", required=True, choices=sorted(READERS))
    parser.add_argument("--root", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--split", default="validation", choices=SPLITS)
    parser.add_argument(
        "--limit", type=at_least(1), default=500, help="so many pictures, drawn at random (%(default)s)"
    )
    parser.add_argument("--detector", default="yuface", help="yuface, mtcnn or yunet:PATH")
    parser.add_argument("--min-confidence", type=share, default=0.3, help="of a detection (%(default)s)")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", type=Path, help="also write the study as JSON")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        reader = build_reader(args.dataset)
        records = [record for record in reader.faces(args.root) if record.split == args.split]
        drawn = np.random.default_rng(args.seed).permutation(len(records))[: args.limit]
        pictures = (reader.load(records[place]) for place in tqdm(drawn, unit="picture"))
        detector = build_detector(args.detector)
        result = study(find_evaluable(args.model), detector, pictures, args.min_confidence, args.seed)
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)
    print(f"{args.dataset} {args.split}: {result['pictures']} of {len(drawn)} pictures, with a face in every shift")
    print(f"standard deviation over a picture and its shifts by 1 to {SHIFTS[-1]} of its pixels")
    for values in result["deviations"].values():
        for name, value in values.items():
            print(f"  {name:<12}{value:>10.4f}")
    if args.out:
        write_figures(args.out, result)


if __name__ == "__main__":
    main()
