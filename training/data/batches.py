"""Batches of a prepared set: augmented crops, preprocessed by the service's own `to_batch`, with masked targets."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget
from model_core.faces.alignment import shrink
from model_core.faces.geometry import Crop
from model_core.preprocessing import InputSpec, oriented, to_batch
from training.data.augmentation import Augmentation
from training.data.prepared import PreparedFaces, distributions

T = TypeVar("T")


@dataclass(frozen=True)
class Lesson:
    """The vectors of a teacher for some of the faces of a batch."""

    places: NDArray[np.int64]
    """int64 [R]: their places in the batch."""
    vectors: Tensor
    """float32 [R, D]: the vectors of its backbone."""


@dataclass(frozen=True)
class Batch:
    """A batch of faces with their targets."""

    images: Tensor
    """float32 [B, 3, S, S]; in training by several processes only this process's share, [B / processes, 3, S, S]."""
    target: AffectTarget
    """The targets of all B faces."""
    rows: NDArray[np.int64]
    """int64 [B]: the records' positions in the prepared set."""
    repeated: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [R]: the places of the faces that the last R images show once more, mirrored."""
    lesson: Lesson | None = None
    """The teacher's vectors, where the run has one; the targets of the faces that it teaches are its answers."""
    compared: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [R]: the places of the faces whose people R further images show at rest; these have no targets."""
    mirrored: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """bool [B]: True where an image is a mirror image; empty where this is not known."""


def targets(faces: PreparedFaces, rows: NDArray[np.int64]) -> AffectTarget:
    """Return the targets of the records `rows`, int64 [B], with masks that are 0 where there is no label.

    The mask of expressions holds their weights.
    """
    return AffectTarget(
        valence_arousal=torch.from_numpy(faces.valence_arousal[rows]),
        valence_arousal_mask=torch.from_numpy(faces.with_valence_arousal[rows]).float(),
        expression=torch.from_numpy(distributions(faces.votes[rows])),
        expression_mask=torch.from_numpy(faces.expression_weights[rows]),
        action_units=torch.from_numpy(faces.action_units[rows]),
        action_units_mask=torch.from_numpy(faces.known_units[rows]).float(),
    )


def unit_variance(faces: PreparedFaces, rows: NDArray[np.int64]) -> Tensor:
    """Return the variance of each action unit's targets among these records, float32 [12]; 1 where it has none."""
    known = faces.known_units[rows]
    taught = np.asarray(known.any(axis=0))
    variance = np.ones(len(taught), dtype=np.float32)
    variance[taught] = faces.action_units[rows][:, taught].var(axis=0, where=known[:, taught])
    return torch.from_numpy(variance).clamp(min=1e-6)


@dataclass(frozen=True)
class EpochPlan:
    """A selection of an epoch's batches, and of the images in each."""

    order: NDArray[np.int64]
    """int64 [steps, B]: the records of each batch, over all processes, in ascending order."""
    seed: tuple[int, int]
    """The run's seed, and the epoch."""
    first: int = 0
    """Number of the first batch to make, from 0."""
    share: slice = field(default_factory=lambda: slice(None))
    """The places within a batch whose images are made; the other processes make the rest."""
    repeated: int = 0
    """This many faces of a batch, evenly spread over it, follow once more at its end, mirrored."""
    compared: int = 0
    """The people of so many faces of a batch, drawn among those that `at_rest` knows, follow at its end at rest."""
    at_rest: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [N]: for each record of the set that of the same person at rest, or -1."""


def training_batches(
    faces: PreparedFaces, spec: InputSpec, augmentation: Augmentation, plan: EpochPlan
) -> Iterator[Batch]:
    """Return the planned batches of an epoch.

    A crop's augmentation depends only on the seed, the number of its batch and its place in the batch. So a resumed
    epoch continues exactly where it stopped, and several processes together make what one process would.
    """
    size = plan.order.shape[1]
    repeated = np.linspace(0, size - 1, plan.repeated).round().astype(np.int64)
    shown = np.concatenate([np.arange(size), repeated])
    for number in range(plan.first, len(plan.order)):
        chosen = plan.order[number][shown]
        compared = _compared(plan, number, chosen)
        crops = []
        drawn = [augmentation.mirrors(np.random.default_rng((*plan.seed, number, place))) for place in shown]
        mirrored = np.array(drawn) != (np.arange(len(shown)) >= size)
        for place in range(len(shown))[plan.share]:
            rng = np.random.default_rng((*plan.seed, number, place))
            crops.append(augmentation.apply(faces.crops[chosen[place]], spec.size, rng, bool(mirrored[place])))
        for place, row in enumerate(plan.at_rest[chosen[compared]] if len(compared) else [], start=len(shown)):
            rng = np.random.default_rng((*plan.seed, number, place))
            crops.append(augmentation.apply(faces.crops[row], spec.size, rng))
        images = to_batch(crops, spec)
        if spec.oriented:
            images = oriented(images)
        yield Batch(
            torch.from_numpy(images),
            targets(faces, chosen),
            chosen,
            repeated,
            compared=compared,
            mirrored=mirrored[:size],
        )


def _compared(plan: EpochPlan, number: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of a batch's faces that are compared with the same people at rest, in ascending order."""
    if not plan.compared:
        return np.zeros(0, dtype=np.int64)
    known = np.flatnonzero(plan.at_rest[chosen] >= 0)
    rng = np.random.default_rng((*plan.seed, number))
    return np.sort(rng.choice(known, min(plan.compared, len(known)), replace=False))


def image_batch(crops: Sequence[Crop], spec: InputSpec) -> Tensor:
    """Return the images of `to_batch`, float32 [B, 3, S, S], as a tensor with channels innermost."""
    return torch.from_numpy(to_batch(crops, spec))


def ahead(batches: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Return the same batches, made in a thread while the network works on earlier ones; at most `depth` wait."""
    with ThreadPoolExecutor(1, "batches") as thread:
        pending = deque(thread.submit(next, batches, None) for _ in range(depth))
        while (batch := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, batches, None))
            yield batch


def evaluation_batches(
    faces: PreparedFaces, rows: NDArray[np.int64], spec: InputSpec, batch_size: int = 64
) -> Iterator[Batch]:
    """Return all records in order, without augmentation."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        crops = [shrink(faces.crops[row], spec.size) for row in chosen]
        yield Batch(image_batch(crops, spec), targets(faces, chosen), chosen)
