"""The network: a backbone, an optional recurrent encoder, and a head for each task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_core.affect import ACTION_UNITS, AffectLogits
from model_core.models.lstm import LSTMEncoder, State
from model_core.models.spec import PROMPT_TEMPERATURE, EstimatorSpec


def task_head(size_in: int, size_out: int, hidden: int | None) -> nn.Module:
    """Return a linear layer, or Linear-ReLU-Linear with `hidden` units in between.

    The authors' notebooks of arXiv 2503.12260 have the hidden layer, and its Figure 1 has not.
    """
    if hidden is None:
        return nn.Linear(size_in, size_out)
    return nn.Sequential(nn.Linear(size_in, hidden), nn.ReLU(), nn.Linear(hidden, size_out))


class PromptHead(nn.Module):
    """Expression logits from prompts: an adapter, then cosines with one text vector for each label.

    Source: arXiv 2503.12260, the CLIP systems. Logits are cosines divided by PROMPT_TEMPERATURE; calibration turns them
    into probabilities.
    """

    text: Tensor
    """One text vector of length 1 for each label, [labels, text_size]; zero until it is set."""

    def __init__(self, size_in: int, labels: int, text_size: int) -> None:
        """Take the widths of the input and of the text vectors, and the number of labels."""
        super().__init__()
        self.adapter = nn.Linear(size_in, text_size)
        self.register_buffer("text", torch.zeros(labels, text_size))

    def embed(self, vector: Tensor) -> Tensor:
        """Return vectors [..., D] as embeddings [..., text_size] of length 1, comparable with `text`."""
        return F.normalize(self.adapter(vector), dim=-1)

    def forward(self, vector: Tensor) -> Tensor:
        """Return logits [..., labels] for vectors [..., D]."""
        return self.embed(vector) @ self.text.T / PROMPT_TEMPERATURE


class ChangeLayers(nn.Module):
    """Tell the movements of the units by how outputs of `unit_changes` differ from those of the face at rest.

    `model_core.baseline.ChangeEstimator` computes the same without torch.
    """

    def __init__(self, spec: EstimatorSpec) -> None:
        """Take the widths."""
        super().__init__()
        self.first = nn.Linear(spec.outputs, spec.hidden)
        self.last = nn.Linear(spec.hidden, 2 * len(ACTION_UNITS), bias=False)

    def forward(self, difference: Tensor) -> Tensor:
        """Return rises and changes of intensity, [..., 24], for differences [..., outputs]; no difference gives 0."""
        told: Tensor = self.last(F.relu(self.first(difference)) - F.relu(self.first.bias))
        return told


class AffectNetwork(nn.Module):
    """A backbone and a head for each task; a temporal network has a recurrent encoder in between."""

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, nn.Module],
        recurrent: LSTMEncoder | None = None,
        estimator: ChangeLayers | None = None,
    ) -> None:
        """Take a backbone that maps images to vectors [B, D], and the heads by task name.

        The estimator has no part in the forward pass, which knows single faces only.
        """
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.recurrent = recurrent
        self.estimator = estimator

    def forward(self, x: Tensor) -> AffectLogits:
        """Return the logits of every task that has a head, for images, float [B, 3, S, S].

        A temporal network sees each image as the first frame of a track.
        """
        return self.forward_vectors(self.backbone(x))

    def forward_vectors(self, vector: Tensor) -> AffectLogits:
        """Return the logits for the backbone's vectors [B, D] of single frames."""
        encoded, _ = self.encode(vector[:, None])
        return self.apply_heads(encoded[:, 0])

    def forward_sequence(self, vectors: Tensor, state: State | None = None) -> tuple[AffectLogits, State | None]:
        """Return logits [B, T, ...] and the state after the backbone's vectors [B, T, D] of consecutive frames.

        `state` is the state after the previous part of the track, or None at its start. A framewise network has no
        state, and returns None.
        """
        encoded, after = self.encode(vectors, state)
        return self.apply_heads(encoded), after

    def encode(self, vectors: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Return the recurrent encoder's vectors [B, T, hidden] for the backbone's [B, T, D], and the state after them.

        A framewise network returns the backbone's vectors themselves.
        """
        if self.recurrent is None:
            return vectors, None
        return self.recurrent.step(vectors, state)

    def apply_heads(self, encoded: Tensor) -> AffectLogits:
        """Return the heads' logits [..., outputs] for vectors [..., hidden]; valence and arousal pass through tanh."""
        logits: dict[str, Tensor] = {name: head(encoded) for name, head in self.heads.items()}
        if "valence_arousal" in logits:
            logits["valence_arousal"] = logits["valence_arousal"].tanh()
        return AffectLogits(**logits)
