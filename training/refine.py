"""`python -m training.refine`: trains the network that places landmarks, which ships with the package.

It looks at the faces of a data set's training split many times with the detector yuface, learns the mean of these
looks, and writes the network as an ONNX file.
"""

import logging
from pathlib import Path

import cv2
from tqdm import tqdm

from training.datasets import READERS, DatasetError, build_reader
from training.refinement.fitting import FitOptions, fit
from training.refinement.labels import LabelledFace, label_faces
from training.refinement.network import write_onnx
from training.runs.command_line import CommandParser, at_least, fail, require_parent


def label_split(dataset: str, root: Path, split: str, workers: int) -> list[LabelledFace]:
    """Return the faces of a split that repeated looks agree about. Raises DatasetError if there are none."""
    records = [record for record in build_reader(dataset).faces(root) if record.split == split]
    looked = tqdm(label_faces(dataset, records, workers), total=len(records), unit="face", desc=split)
    faces = [face for face in looked if face is not None]
    if not faces:
        raise DatasetError(f"{root} has no {split} picture with a face")
    return faces


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.refine", description=__doc__)
    parser.add_argument("--dataset", default="ferplus", choices=sorted(READERS))
    parser.add_argument("--root", required=True, type=Path, help="folder of the data set's own files")
    parser.add_argument("--out", required=True, type=Path, help="the ONNX file to write")
    parser.add_argument("--epochs", default=FitOptions.epochs, type=at_least(1))
    parser.add_argument("--seed", default=0, type=at_least(0))
    parser.add_argument("--workers", default=2, type=at_least(1))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    try:
        require_parent(args.out)
        train, validation = (
            label_split(args.dataset, args.root, split, args.workers) for split in ("train", "validation")
        )
        network = fit(train, validation, FitOptions(epochs=args.epochs, seed=args.seed))
        write_onnx(network, args.out)
    except (DatasetError, ModuleNotFoundError, OSError) as error:
        fail(error)
    print(f"{args.out}: trained on {len(train)} faces")


if __name__ == "__main__":
    main()
