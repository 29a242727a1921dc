"""From a prepared set to batches: augmented crops through the service's own `to_batch`, and masked targets."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget
from model_core.alignment import shrink
from model_core.preprocessing import InputSpec, to_batch
from training.augmentation import Augmentation
from training.prepared import PreparedFaces, distributions


@dataclass(frozen=True)
class Batch:
    """images: float32 [B, 3, S, S]; rows: int64 [B], the records' positions in the prepared set."""

    images: Tensor
    target: AffectTarget
    rows: NDArray[np.int64]


def targets(faces: PreparedFaces, rows: NDArray[np.int64]) -> AffectTarget:
    """The targets of some records."""
    expression = distributions(faces.votes[rows])
    derived = torch.from_numpy(faces.derived[rows]).float()
    return AffectTarget(
        valence_arousal=torch.from_numpy(faces.valence_arousal[rows]),
        valence_arousal_mask=torch.from_numpy(faces.with_valence_arousal[rows]).float(),
        expression=torch.from_numpy(expression),
        expression_mask=torch.from_numpy(expression.sum(axis=1) > 0).float(),
        action_units=torch.from_numpy(faces.action_units[rows]),
        action_units_mask=derived[:, None].expand(-1, faces.action_units.shape[1]),
    )


def training_batches(
    faces: PreparedFaces,
    rows: NDArray[np.int64],
    spec: InputSpec,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: tuple[int, int],
    first: int = 0,
) -> Iterator[Batch]:
    """One epoch in random order from batch `first` on; the incomplete last batch is left out.

    `seed` is (run, epoch). Order and augmentation depend on it and the batch's number only, so a resumed epoch goes on
    exactly where it stopped.
    """
    order = np.random.default_rng(seed).permutation(rows)
    for number in range(first, len(order) // batch_size):
        chosen = np.sort(order[number * batch_size : (number + 1) * batch_size])
        rng = np.random.default_rng((*seed, number))
        crops = [augmentation.apply(faces.crops[row], spec.size, rng) for row in chosen]
        yield Batch(to_batch(crops, spec), targets(faces, chosen), chosen)


def ahead(batches: Iterator[Batch], depth: int = 2) -> Iterator[Batch]:
    """The same batches, made in a thread while the network works on those before; at most `depth` wait."""
    with ThreadPoolExecutor(1, "batches") as thread:
        pending = deque(thread.submit(next, batches, None) for _ in range(depth))
        while (batch := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, batches, None))
            yield batch


def evaluation_batches(
    faces: PreparedFaces, rows: NDArray[np.int64], spec: InputSpec, batch_size: int = 64
) -> Iterator[Batch]:
    """All records in order, without augmentation."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        crops = [shrink(faces.crops[row], spec.size) for row in chosen]
        yield Batch(to_batch(crops, spec), targets(faces, chosen), chosen)
