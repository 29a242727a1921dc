"""Task heads on the backbone's vector: each task has a trained head of its own."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_core.affect import AffectLogits
from model_core.models.lstm import LSTMEncoder, State


def task_head(size_in: int, size_out: int, hidden: int | None) -> nn.Module:
    """Linear, or Linear-ReLU-Linear with `hidden` units in between (the paper's notebooks; its Figure 1 has none)."""
    if hidden is None:
        return nn.Linear(size_in, size_out)
    return nn.Sequential(nn.Linear(size_in, hidden), nn.ReLU(), nn.Linear(hidden, size_out))


PROMPT_TEMPERATURE = 0.07


class PromptHead(nn.Module):
    """Expressions told by prompts (PAPER section 1): an adapter, then cosines with one text vector a label.

    Logits are cosines divided by the temperature of training, 0.07; what they mean is left to calibration.
    """

    text: Tensor

    def __init__(self, size_in: int, labels: int, text_size: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(size_in, text_size)
        self.register_buffer("text", torch.zeros(labels, text_size))

    def embed(self, vector: Tensor) -> Tensor:
        """[..., D] -> [..., text_size] of length 1, to be compared with `text`, whose rows have length 1 as well."""
        return F.normalize(self.adapter(vector), dim=-1)

    def forward(self, vector: Tensor) -> Tensor:
        """[..., D] -> logits [..., labels]."""
        return self.embed(vector) @ self.text.T / PROMPT_TEMPERATURE


class AffectNetwork(nn.Module):
    """A backbone and a head for each task it was trained on; a temporal network has a recurrent encoder in between."""

    def __init__(
        self, backbone: nn.Module, heads: Mapping[str, nn.Module], recurrent: LSTMEncoder | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> AffectLogits:
        """float [B, 3, S, S] -> logits of every task that has a head; a temporal network sees each as a first frame."""
        return self.read(self.backbone(x))

    def read(self, vector: Tensor) -> AffectLogits:
        """All but the backbone: vectors [B, D] of single frames -> logits."""
        encoded, _ = self.encode(vector[:, None])
        return self.answer(encoded[:, 0])

    def read_sequence(self, vectors: Tensor, state: State | None = None) -> tuple[AffectLogits, State | None]:
        """All but the backbone: vectors [B, T, D] of consecutive frames -> logits [B, T, ...], and the state after.

        state: after the part of the track before, None at its start; stays None in a network without memory.
        """
        encoded, after = self.encode(vectors, state)
        return self.answer(encoded), after

    def encode(self, vectors: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """What the heads see of `read_sequence`'s vectors: [B, T, hidden]; without memory, the vectors themselves."""
        if self.recurrent is None:
            return vectors, None
        return self.recurrent.step(vectors, state)

    def answer(self, encoded: Tensor) -> AffectLogits:
        """The heads: [..., hidden] -> logits [..., outputs]."""
        logits: dict[str, Tensor] = {name: head(encoded) for name, head in self.heads.items()}
        if "valence_arousal" in logits:
            logits["valence_arousal"] = logits["valence_arousal"].tanh()
        return AffectLogits(**logits)
