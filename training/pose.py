"""`python -m training.pose`: fits the coefficients of the heads' pose to rendered faces, and prints its errors.

It finds the faces of a folder that `training.render` wrote, fits to the training split, and prints the coefficients for
model_core/faces/pose.py. Then come the errors of these, and of the included ones, on the split that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.pose import INCLUDED, Coefficients, Pose, UprightFace, upright_face
from training.datasets import DatasetError
from training.datasets.pictures import read_picture
from training.datasets.raw import SPLITS, Split
from training.datasets.rendered import rendered_pictures
from training.runs.command_line import CommandParser, fail

MIN_CONFIDENCE = 0.3
"""Lowest confidence of a detection, as `training.prepare` uses it for the included weights."""

MIN_FACES = 100
"""Fewest training faces that a pose is fitted to."""

YAW_EDGES = (0, 15, 30, 50)
"""Edges in degrees of the groups of true |yaw| by which errors are told."""


@dataclass(frozen=True)
class PosedFace:
    """A face that was found in a rendered picture, and its true pose."""

    split: Split
    face: UprightFace
    pose: Pose


def posed_faces(root: Path, detector: FaceDetector) -> list[PosedFace]:
    """Return the faces that are found in the rendered pictures of a folder. Raises DatasetError."""
    found = []
    for picture in tqdm(list(rendered_pictures(root)), unit="picture"):
        frame = read_picture(root / picture.file)
        for face in detector.detect(frame, min_confidence=MIN_CONFIDENCE, max_faces=1):
            # A tilt to the person's right shoulder is anticlockwise in the picture.
            pose = Pose(picture.yaw, picture.pitch, -picture.roll)
            found.append(PosedFace(picture.split, upright_face(face.landmarks), pose))
    return found


def fit(faces: Sequence[PosedFace]) -> Coefficients:
    """Return the least-squares coefficients for the poses of upright faces.

    Mirror images would change nothing: theirs are the mirrored measures. Raises DatasetError if there are too few
    faces.
    """
    if len(faces) < MIN_FACES:
        raise DatasetError(f"{len(faces)} training faces were found; a pose is fitted to {MIN_FACES} or more")
    yaw, pitch, roll = np.array([each.face.upright_pose(each.pose) for each in faces]).T
    across, *proportions, _ = np.array([each.face for each in faces]).T
    return Coefficients(
        yaw=float(across @ yaw / (across @ across)),
        roll=float(across @ roll / (across @ across)),
        pitch=np.linalg.lstsq(np.column_stack([np.ones(len(faces)), *proportions]), pitch)[0],
    )


def errors(faces: Sequence[PosedFace], coefficients: Coefficients) -> NDArray[np.float64]:
    """Return the errors of yaw, pitch and roll in degrees, float64 [N, 3]."""
    estimated = np.array([each.face.pose(coefficients) for each in faces])
    return np.asarray(estimated - [each.pose for each in faces])


def render(faces: Sequence[PosedFace], coefficients: Coefficients) -> list[str]:
    """Return a line for each group of yaw that has faces, and one for all: mean absolute errors in degrees."""
    missed = np.abs(errors(faces, coefficients))
    yaw = np.abs([each.pose.yaw for each in faces])
    groups = {f"{low} to {high}": (yaw >= low) & (yaw < high) for low, high in pairwise(YAW_EDGES)}
    groups["all"] = np.ones(len(faces), dtype=bool)
    lines = [f"  {'|yaw|':<10}{'faces':>6}{'yaw':>7}{'pitch':>7}{'roll':>7}"]
    for name, inside in groups.items():
        if inside.any():
            means = "".join(f"{mean:7.1f}" for mean in missed[inside].mean(axis=0))
            lines.append(f"  {name:<10}{inside.sum():>6}{means}")
    return lines


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.pose", description=__doc__)
    parser.add_argument("--root", required=True, type=Path, help="a folder of rendered pictures")
    parser.add_argument("--split", default="validation", choices=SPLITS, help="errors are printed for this split")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        faces = posed_faces(args.root, build_detector("yuface"))
        fitted = fit([each for each in faces if each.split == "train"])
        measured = [each for each in faces if each.split == args.split]
        if not measured:
            raise DatasetError(f"{args.root} has no {args.split} picture with a face")
    except (DatasetError, OSError) as error:
        fail(error)
    pitch = ", ".join(f"{value:.3f}" for value in fitted.pitch)
    print(f"yaw={fitted.yaw:.3f}, roll={fitted.roll:.3f}, pitch=[{pitch}]")
    for name, coefficients in {"fitted": fitted, "included": INCLUDED}.items():
        print("\n".join([f"{args.split}, {name} coefficients", *render(measured, coefficients)]))


if __name__ == "__main__":
    main()
