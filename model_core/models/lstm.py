"""A recurrent encoder over a face's feature vectors in time (PAPER section 1: LSTM, hidden 128, one layer, causal)."""

from torch import Tensor, nn

from model_core.models.ddamfn import VECTOR_SIZE

State = tuple[Tensor, Tensor]
"""Hidden and cell state, each [1, B, hidden]."""


class LSTMEncoder(nn.Module):
    """Backbone vectors of consecutive frames -> vectors that know the past; task heads read them like frames'."""

    def __init__(self, size_in: int = VECTOR_SIZE, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size_in, hidden, batch_first=True)
        self.vector_size = hidden

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, size_in], from the start of a track -> [B, T, hidden]."""
        return self.step(x, None)[0]

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The same for a part of a track, from the state after the part before it (None: its start)."""
        vectors, after = self.lstm(x, state)
        return vectors, after
