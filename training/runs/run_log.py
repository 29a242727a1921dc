"""What a run tells while it goes: a line an epoch, printed and in `log.jsonl`, and curves for TensorBoard."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = "tensorboard"
"""The folder of the curves, within the run's."""


class RunLog:
    """Writes into the run's folder. every: steps between points of the training curves.

    Steps are counted from the run's beginning, from 1. What a killed run had written beyond its checkpoint is replaced.
    Without the package tensorboard there are no curves, which is said once.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._opened = False
        self._curves: SummaryWriter | None = None

    def step(self, number: int, loss: float, rate: float) -> None:
        """After step `number`: its loss and its learning rate, that of the heads."""
        if number % self._every == 0:
            self._draw(number, {"train/loss": loss, "train/rate": rate})

    def epoch(self, number: int, measures: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> None:
        """Log an epoch whose last step is `number`, with its validation measures.

        `history` holds a record of each epoch so far: its number, its loss and its measures.
        """
        print(json.dumps({name: round(value, 4) for name, value in history[-1].items()}), flush=True)
        (self._folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
        self._draw(number, {f"validation/{name}": value for name, value in measures.items()})
        if self._curves is not None:
            self._curves.flush()

    def _draw(self, number: int, values: Mapping[str, float]) -> None:
        if not self._opened:
            self._opened = True
            self._curves = _open_curves(self._folder / CURVES, number)
        if self._curves is not None:
            for name, value in values.items():
                self._curves.add_scalar(name, value, number)


def _open_curves(folder: Path, first: int) -> "SummaryWriter | None":
    """A writer before whose first point, at step `first`, everything earlier stays, and nothing from there on."""
    if find_spec("tensorboard") is None:
        print("no curves: the package tensorboard, of the extra `train`, is not installed", file=sys.stderr)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=first)
