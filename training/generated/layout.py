"""Files as Aff-Wild2 has them (PAPER.md section 3): frame folders, and a text file for each task and face.

    FOLDER/cropped_aligned/NAME[_left|_right]/00001.jpg
    FOLDER/6th_ABAW_Annotations/TASK/{Train_Set,Validation_Set}/NAME[_left|_right].txt

Line 1 of a text file is its header; then comes a line for each frame of the video, also for those without a picture:
frame N's is line N after the header. A frame without a label has the task's ignore mark.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Crop
from training.datasets.affwild2 import HEADERS
from training.generated.trajectories import Trajectory

FRAMES = "cropped_aligned"
ANNOTATIONS = "6th_ABAW_Annotations"
VA_IGNORED = -5
IGNORED = -1
"""The ignore mark of expressions and of action units."""

_JPEG_QUALITY = 90

SplitFolder: TypeAlias = Literal["Train_Set", "Validation_Set"]


def write_frames(root: Path, name: str, pictures: Iterable[tuple[int, Crop]]) -> None:
    """Write numbered pictures, uint8 [112, 112, 3] RGB, as one face's folder; frame numbers start at 1."""
    folder = root / FRAMES / name
    folder.mkdir(parents=True)
    for number, picture in pictures:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not done:
            raise OSError(f"frame {number} of {name} cannot be encoded")
        (folder / f"{number:05}.jpg").write_bytes(data.tobytes())


def write_annotations(root: Path, split: SplitFolder, name: str, truth: Trajectory, ignored: NDArray[np.bool_]) -> None:
    """Write one face's three files. `ignored`: bool [3, T], what has no valence-arousal, no expression, no units."""
    rows = np.where(ignored[0][:, None], VA_IGNORED, truth.valence_arousal)
    va = [",".join("-5" if value == VA_IGNORED else f"{value:.3f}" for value in row) for row in rows]
    expressions = np.where(ignored[1], IGNORED, truth.expression)
    units = np.where(ignored[2][:, None], IGNORED, truth.action_units)
    _write(root, "VA_Estimation_Challenge", split, name, [HEADERS["valence_arousal"], *va])
    _write(root, "EXPR_Recognition_Challenge", split, name, [HEADERS["expression"], *map(str, expressions)])
    _write(
        root,
        "AU_Detection_Challenge",
        split,
        name,
        [HEADERS["action_units"], *(",".join(map(str, row)) for row in units)],
    )


def _write(root: Path, task: str, split: SplitFolder, name: str, lines: list[str]) -> None:
    folder = root / ANNOTATIONS / task / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
