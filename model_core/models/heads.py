"""Task heads on the backbone's vector: each task has a trained head of its own."""

from collections.abc import Mapping

from torch import Tensor, nn

from model_core.affect import AffectLogits


def task_head(size_in: int, size_out: int, hidden: int | None) -> nn.Module:
    """Linear, or Linear-ReLU-Linear with `hidden` units in between (the paper's notebooks; its Figure 1 has none)."""
    if hidden is None:
        return nn.Linear(size_in, size_out)
    return nn.Sequential(nn.Linear(size_in, hidden), nn.ReLU(), nn.Linear(hidden, size_out))


class AffectNetwork(nn.Module):
    """A backbone and a head for each task it was trained on."""

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> AffectLogits:
        """float [B, 3, S, S] -> logits of every task that has a head."""
        return self.read(self.backbone(x))

    def read(self, vector: Tensor) -> AffectLogits:
        """The heads alone: [B, D] -> logits."""
        logits: dict[str, Tensor] = {name: head(vector) for name, head in self.heads.items()}
        if "valence_arousal" in logits:
            logits["valence_arousal"] = logits["valence_arousal"].tanh()
        return AffectLogits(**logits)
