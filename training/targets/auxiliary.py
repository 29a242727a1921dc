"""Auxiliary targets from the teacher's readings: 52 blendshape scores and the shape of 146 landmarks.

Twelve action units say little about where brows, lids and lips are. An auxiliary head learns these targets on the same
features as the task heads, and is dropped when the network is saved.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from model_core.losses import soft_binary_cross_entropy
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.targets.shape import COMPONENTS, fit_shapes
from training.targets.teacher import BLENDSHAPES

OUTPUTS = len(BLENDSHAPES) + COMPONENTS
"""Outputs of the head: logits of the scores, then the components of the shape."""


class AuxiliaryLoss(BaseModel):
    """Weights of the auxiliary targets; with both 0 there is no auxiliary head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blendshapes: float = Field(0.0, ge=0)
    """Weight of the binary cross-entropy of the blendshape scores."""
    shape: float = Field(0.0, ge=0)
    """Weight of the squared error of the shape's components."""


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


_MIRRORED = np.array([BLENDSHAPES.index(_other_side(name)) for name in BLENDSHAPES])


@dataclass(frozen=True)
class AuxiliaryTargets:
    """The auxiliary targets of N records, with the weights of their losses."""

    values: NDArray[np.float32]
    """float32 [2, N, 100]: targets of the faces, and of their mirror images."""
    known: NDArray[np.bool_]
    """bool [N]: True where the teacher read the face."""
    emphasis: Tensor
    """float32 [48], with mean 1: weights of the shape's components, which are in units of their standard deviations.

    They are the square roots of the deviations. With equal weights the least component would be learned like the
    largest; weighted by variance, the corners of the mouth would hardly count.
    """
    weights: AuxiliaryLoss

    def loss(self, outputs: Tensor, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
        """Return the loss of the head's outputs [B, 100] for the records `rows` [B], `mirrored` or not, bool [B]."""
        target = torch.from_numpy(self.values[mirrored.astype(np.int64), rows])
        mask = torch.from_numpy(self.known[rows]).float()[:, None]
        scores = len(BLENDSHAPES)
        score_loss = soft_binary_cross_entropy(outputs[:, :scores], target[:, :scores], mask.expand(-1, scores))
        error = (outputs[:, scores:] - target[:, scores:]).square() * self.emphasis
        shape_loss = (error.mean(dim=1) * mask[:, 0]).sum() / mask.sum().clamp(min=1)
        return self.weights.blendshapes * score_loss + self.weights.shape * shape_loss


def auxiliary_targets(faces: PreparedFaces, rows: NDArray[np.int64], weights: AuxiliaryLoss) -> AuxiliaryTargets:
    """Return the targets of a set; the shape model is fitted to the records `rows`.

    Raises DatasetError where the set has no readings, or too few.
    """
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
