"""From a prepared set to batches: augmented crops through the service's own `to_batch`, and masked targets."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget
from model_core.faces.alignment import shrink
from model_core.preprocessing import InputSpec, to_batch
from training.data.augmentation import Augmentation
from training.data.prepared import PreparedFaces, distributions

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """images: float32 [B, 3, S, S]; rows: int64 [B], the records' positions in the prepared set.

    In training by several processes `images` has this process's share only, [B / processes, 3, S, S].
    """

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


def unit_variance(faces: PreparedFaces, rows: NDArray[np.int64]) -> Tensor:
    """float32 [12]: how much each action unit's targets vary among these records; 1 where none has any."""
    known = rows[faces.derived[rows]]
    if not len(known):
        return torch.ones(faces.action_units.shape[1])
    return torch.from_numpy(faces.action_units[known].var(axis=0)).clamp(min=1e-6)


@dataclass(frozen=True)
class EpochPlan:
    """The batches of an epoch to make, and the part of each."""

    batch_size: int
    """Faces of a batch, over all processes."""
    seed: tuple[int, int]
    """The run's seed, and the epoch."""
    first: int = 0
    """Number of the first batch to make, from 0."""
    share: slice = field(default_factory=lambda: slice(None))
    """The places within a batch whose images are made; the other processes make the rest."""


def training_batches(
    faces: PreparedFaces, rows: NDArray[np.int64], spec: InputSpec, augmentation: Augmentation, plan: EpochPlan
) -> Iterator[Batch]:
    """One epoch in random order, with this process's share of each batch's images; an incomplete last one is left out.

    The order depends on the seed only, a crop's augmentation on the seed, its batch's number and its place in the
    batch: a resumed epoch goes on exactly where it stopped, and several processes make what one would.
    """
    order = np.random.default_rng(plan.seed).permutation(rows)
    for number in range(plan.first, len(order) // plan.batch_size):
        chosen = np.sort(order[number * plan.batch_size : (number + 1) * plan.batch_size])
        crops = [
            augmentation.apply(
                faces.crops[chosen[place]], spec.size, np.random.default_rng((*plan.seed, number, place))
            )
            for place in range(plan.batch_size)[plan.share]
        ]
        yield Batch(to_batch(crops, spec), targets(faces, chosen), chosen)


def ahead(batches: Iterator[T], depth: int = 2) -> Iterator[T]:
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
