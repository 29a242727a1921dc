"""The recurrent encoder of temporal networks: a causal LSTM of one layer, as in arXiv 2503.12260 (hidden size 128)."""

from torch import Tensor, nn

from model_core.models.ddamfn import VECTOR_SIZE

State = tuple[Tensor, Tensor]
"""Hidden and cell state, each [1, B, hidden]."""


class LSTMEncoder(nn.Module):
    """Encodes the backbone's vectors of consecutive frames as vectors that depend on the past; task heads follow it."""

    def __init__(self, size_in: int = VECTOR_SIZE, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size_in, hidden, batch_first=True)
        self.vector_size = hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors [B, T, hidden] for vectors [B, T, size_in] from the start of a track."""
        return self.step(x, None)[0]

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return vectors [B, T, hidden] and the state after them, for vectors [B, T, size_in] of a part of a track.

        `state` is the state after the previous part, or None at the track's start.
        """
        vectors, after = self.lstm(x, state)
        return vectors, after
