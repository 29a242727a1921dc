"""The log of a run: a line for each epoch, printed and in `log.jsonl`, and curves for TensorBoard."""

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from training.measuring.figures import figures_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = "tensorboard"
"""Name of the curves' folder within that of the run."""


class RunLog:
    """The log in a run's folder. Training curves have a point every `every` steps.

    Steps are counted from 1 at the beginning of the run. Entries that a killed run wrote after its checkpoint are
    replaced. Without the package tensorboard there are no curves, and a line on standard error says so once.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._opened = False
        self._curves: SummaryWriter | None = None

    def step(self, number: int, loss: float, rate: float) -> None:
        """Log step `number` with its loss and the heads' learning rate."""
        if number % self._every == 0:
            self._draw(number, {"train/loss": loss, "train/rate": rate})

    def epoch(self, number: int, measures: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> None:
        """Log an epoch whose last step is `number`, with its validation measures.

        `history` holds a record of each epoch so far: its number, its loss and its measures.
        """
        print(figures_text({name: round(value, 4) for name, value in history[-1].items()}), flush=True)
        (self._folder / "log.jsonl").write_text("".join(figures_text(record) + "\n" for record in history))
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
    """Return a writer that keeps earlier points, up to step `first`, and discards those from there on."""
    if find_spec("tensorboard") is None:
        print("no curves: the package tensorboard, of the extra `train`, is not installed", file=sys.stderr)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=first)
