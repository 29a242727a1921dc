"""The order in which faces are drawn into batches, which depends on the seed only, so that it can be resumed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class BatchOrder:
    """The composition of every batch of a run, in positions among its training faces.

    Every batch holds the same number of faces of each set. An epoch is one pass over the first set in random order,
    without an incomplete last batch; of the other sets, each epoch goes on where the one before it stopped, and a set
    that was passed through comes again in another order.
    """

    def __init__(self, origins: NDArray[np.int64], shares: Sequence[float], batch_size: int, seed: int) -> None:
        """Take the set of each training face, int64 [N], and the relative share of each set in a batch.

        Raises ValueError where a set has no faces or no place in a batch, or the first does not fill its own places.
        """
        self._positions = [np.flatnonzero(origins == number) for number in range(len(shares))]
        bounds = np.round(np.cumsum([0, *shares]) / sum(shares) * batch_size).astype(np.int64)
        self._counts = np.diff(bounds)
        self._seed = seed
        for number, (positions, count) in enumerate(zip(self._positions, self._counts, strict=True), start=1):
            if not count:
                raise ValueError(f"set {number} has no place in a batch of {batch_size} with the shares {list(shares)}")
            if number > 1 and not len(positions):
                raise ValueError(f"set {number} has no training faces")
        self.steps = len(self._positions[0]) // int(self._counts[0])
        """Batches of an epoch."""
        if not self.steps:
            whole = f"one batch of {batch_size}"
            places = whole if len(shares) == 1 else f"the first set's {self._counts[0]} places in {whole}"
            raise ValueError(f"{len(self._positions[0])} training faces do not fill {places}")

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Return the positions of each batch's faces in epoch `number`, from 0: int64 [steps, batch size], sorted."""
        columns = [self._one_pass(number)] + [self._continued(i, number) for i in range(1, len(self._positions))]
        return np.sort(np.concatenate(columns, axis=1), axis=1)

    def _one_pass(self, epoch: int) -> NDArray[np.int64]:
        order = np.random.default_rng((self._seed, epoch)).permutation(self._positions[0])
        count = int(self._counts[0])
        return order[: self.steps * count].reshape(self.steps, count)

    def _continued(self, number: int, epoch: int) -> NDArray[np.int64]:
        """Return the faces of a set that is passed through again and again, int64 [steps, its places in a batch]."""
        positions, count = self._positions[number], int(self._counts[number])
        first = epoch * self.steps * count
        last = first + self.steps * count
        passes = range(first // len(positions), -(-last // len(positions)))
        orders = [np.random.default_rng((self._seed, number, each)).permutation(positions) for each in passes]
        start = first - passes[0] * len(positions)
        return np.concatenate(orders)[start : start + last - first].reshape(self.steps, count)
