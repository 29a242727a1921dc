"""What else the teacher read off a face, as targets in training only: 52 scores, and the shape of 146 landmarks.

Twelve numbers a face say little of where brows, lids and lips are. A head for these learns beside the others on what
they share, and is left behind when the network is saved.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.losses import soft_binary_cross_entropy
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.runs.config import AuxiliaryLoss
from training.targets.shape import COMPONENTS, fit_shapes
from training.targets.teacher import BLENDSHAPES

OUTPUTS = len(BLENDSHAPES) + COMPONENTS
"""Of the head: logits of the scores, then the shape's components."""


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


_MIRRORED = np.array([BLENDSHAPES.index(_other_side(name)) for name in BLENDSHAPES])


@dataclass(frozen=True)
class AuxiliaryTargets:
    """values: float32 [2, N, 100], of the faces as they are and of their mirror images. known: bool [N].

    emphasis: float32 [48], with mean 1, of the shape's components, which are in units of their deviations: were all
    alike, the least would be learned like the largest; by their variances, the mouth's corners would hardly count.
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    emphasis: Tensor
    weights: AuxiliaryLoss

    def loss(self, outputs: Tensor, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
        """Of the head's outputs [B, 100] for some records, some of which were mirrored, bool [B]."""
        target = torch.from_numpy(self.values[mirrored.astype(np.int64), rows])
        mask = torch.from_numpy(self.known[rows]).float()[:, None]
        scores = len(BLENDSHAPES)
        score_loss = soft_binary_cross_entropy(outputs[:, :scores], target[:, :scores], mask.expand(-1, scores))
        error = (outputs[:, scores:] - target[:, scores:]).square() * self.emphasis
        shape_loss = (error.mean(dim=1) * mask[:, 0]).sum() / mask.sum().clamp(min=1)
        return self.weights.blendshapes * score_loss + self.weights.shape * shape_loss


def auxiliary_targets(faces: PreparedFaces, rows: NDArray[np.int64], weights: AuxiliaryLoss) -> AuxiliaryTargets:
    """Shapes are described as these records' vary. Raises DatasetError where the set has no readings or too few."""
    if faces.blendshapes is None or faces.landmarks is None:
        raise DatasetError("auxiliary targets need a set prepared with --teacher, by this version or a later one")
    try:
        model = fit_shapes(faces.landmarks[rows[faces.derived[rows]]])
    except ValueError as error:
        raise DatasetError(f"auxiliary targets: {error}") from error
    values = np.stack(
        [
            np.concatenate([scores, model.describe(faces.landmarks, mirrored=mirrored)], axis=1)
            for mirrored, scores in ((False, faces.blendshapes), (True, faces.blendshapes[:, _MIRRORED]))
        ]
    )
    emphasis = np.sqrt(model.deviations / model.deviations.mean())
    return AuxiliaryTargets(values, faces.derived, torch.from_numpy(emphasis / emphasis.mean()).float(), weights)
