"""The action-unit teacher: MediaPipe's face landmarker, run on our own detections (extra `train`).

It gives 478 landmarks and 52 blendshape scores, from which `derived.py` makes action-unit targets. They were not
validated against FACS coding, so every network that learns from them declares the task `derived`.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Face, Frame
from training.datasets.file_kind import foreign_kind

CROP_PX = 256
_CROP_SCALE = 1.5
_MIN_FACE_SCORE = 0.5

BLENDSHAPES: tuple[str, ...] = tuple(
    """_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight
    mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft
    mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight""".split()
)
"""Names of the 52 scores, in order."""

LANDMARKS = 146
"""Number of landmarks, of 478, that the blendshape network reads."""

_SUBSET = np.fromstring(
    """0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103
    105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 178
    181 185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 312
    314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 387 388 389
    390 397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477""",
    dtype=np.int64,
    sep=" ",
)
_UPPER_LIP, _LOWER_LIP, _FOREHEAD, _CHIN = 13, 14, 10, 152


@dataclass(frozen=True)
class TeacherReading:
    """The teacher's reading of one face."""

    blendshapes: NDArray[np.float32]
    """float32 [52] in [0, 1], in the order of BLENDSHAPES."""
    landmarks: NDArray[np.float32]
    """float32 [146, 2]: x and y in pixels of the frame."""
    lip_gap: float
    """Distance of the inner lips over the height of the face, both measured on the landmarks."""


class TeacherError(ValueError):
    """The teacher's file cannot be used; the message is one line that names it and says why."""


class BlendshapeTeacher:
    """Reads landmarks and blendshapes of a detected face. An instance serves one thread."""

    def __init__(self, task_file: Path) -> None:
        """task_file: MediaPipe's `face_landmarker.task`. Raises TeacherError, ModuleNotFoundError without the extra."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with zipfile.ZipFile(task_file) as archive:
                contents = [archive.read(f"{name}.tflite") for name in ("face_landmarks_detector", "face_blendshapes")]
        except OSError as error:
            raise TeacherError(f"the teacher {task_file} cannot be read ({error.strerror})") from error
        except (zipfile.BadZipFile, KeyError) as error:
            kind = foreign_kind(task_file) or "is not MediaPipe's face_landmarker.task, or is damaged"
            raise TeacherError(f"the teacher {task_file} {kind}") from error
        try:
            self._landmarker, self._blendshaper = (Interpreter(model_content=each, num_threads=1) for each in contents)
            for network in (self._landmarker, self._blendshaper):
                network.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise TeacherError(f"the teacher {task_file} holds networks that cannot be loaded") from error

    def read(self, frame: Frame, face: Face) -> TeacherReading | None:
        """Return the reading of a face in a frame, uint8 [H, W, 3] RGB; None if the landmark network sees no face."""
        matrix = _crop_matrix(face)
        crop = cv2.warpAffine(frame, matrix, (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REPLICATE)
        points, score = self._landmarks(np.asarray(crop, dtype=np.float32) / np.float32(255))
        if score < _MIN_FACE_SCORE:
            return None
        inverse = cv2.invertAffineTransform(matrix)
        in_frame = (points[:, :2] @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)
        landmarks = in_frame[_SUBSET]
        scores = _run(self._blendshaper, landmarks[None])[0]
        height = float(np.linalg.norm(in_frame[_FOREHEAD] - in_frame[_CHIN]))
        gap = float(np.linalg.norm(in_frame[_UPPER_LIP] - in_frame[_LOWER_LIP])) / max(height, 1e-6)
        return TeacherReading(scores.reshape(-1).clip(0, 1), landmarks, gap)

    def _landmarks(self, crop: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        outputs = _run(self._landmarker, crop[None])
        logit = float(outputs[1].reshape(-1)[0])
        return outputs[0].reshape(478, 3), 1 / (1 + float(np.exp(-logit)))


def _crop_matrix(face: Face) -> NDArray[np.float64]:
    """Return the transform to a square of 1.5 times the longer side of the box, rotated so that the eyes are level."""
    box = face.box
    left, right = face.landmarks.left_eye, face.landmarks.right_eye
    centre = (box.x + box.width / 2, box.y + box.height / 2)
    angle_deg = float(np.degrees(np.arctan2(right.y - left.y, right.x - left.x)))
    scale = CROP_PX / (_CROP_SCALE * max(box.width, box.height))
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, angle_deg, scale), dtype=np.float64)
    matrix[:, 2] += CROP_PX / 2 - np.array(centre)
    return matrix


def _run(network: Any, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    network.set_tensor(network.get_input_details()[0]["index"], tensor)
    network.invoke()
    return [network.get_tensor(output["index"]) for output in network.get_output_details()]
