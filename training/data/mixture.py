"""Several prepared sets as one: what each of them teaches, and how much of a batch is its."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, LEARNED_TASKS, Task
from training.data.prepared import PreparedFaces, distributions
from training.datasets.raw import DatasetError, Split

_NEUTRAL_FROM = 0.7
"""Share of the votes from which on a face is taken to be at rest."""


@dataclass(frozen=True)
class Source:
    """A prepared set, and what is learned from it."""

    name: str
    """Name of the set among the others; its measures go by it."""
    faces: PreparedFaces
    share: float = 1.0
    """Its share of each batch, relative to the shares of the other sets."""
    tasks: tuple[Task, ...] = LEARNED_TASKS
    """The tasks that are learned from its targets, where it has any."""
    trusted_units: tuple[str, ...] = tuple(ACTION_UNITS)
    """The action units that are learned from its targets."""
    neutral_at_rest: bool = False
    """Where at least 0.7 of the votes are neutral, the units that are not trusted are learned as absent."""
    resting_factor: float = 1.0
    """Where at least 0.7 of the votes are neutral, the targets of trusted units are multiplied by this, in [0, 1]."""
    balance: float = 0.0
    """In [0, 1]: 0, all faces count the same for expressions; 1, all labels together do, however rare they are."""
    taught: bool = False
    """True: a teacher's answers are learned in place of its targets."""

    @property
    def known_units(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where a unit's target is learned."""
        learned = self._trusted | self._absent
        return self.faces.known_units & learned & ("action_units" in self.tasks)

    @property
    def action_units(self) -> NDArray[np.float32]:
        """float32 [N, 12]: the units' targets."""
        factor = np.where(self._resting[:, None], np.float32(self.resting_factor), np.float32(1))
        return np.where(self._absent, np.float32(0), factor * self.faces.action_units)

    @property
    def _trusted(self) -> NDArray[np.bool_]:
        return np.isin(list(ACTION_UNITS), self.trusted_units)

    @property
    def _resting(self) -> NDArray[np.bool_]:
        """bool [N]: True where a face is taken to be at rest."""
        neutral = distributions(self.faces.votes)[:, self.faces.info.labels.index("neutral")]
        return np.asarray(neutral >= _NEUTRAL_FROM)

    @property
    def _absent(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where a face teaches that a unit is absent, whatever its target says."""
        return self._resting[:, None] & ~self._trusted & self.neutral_at_rest

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """bool [N]: True where the target of valence-arousal is learned."""
        return self.faces.with_valence_arousal & ("valence_arousal" in self.tasks)

    @property
    def votes(self) -> NDArray[np.float32]:
        """float32 [N, C]: the votes, or 0 where expressions are not learned."""
        return self.faces.votes * np.float32("expression" in self.tasks)

    @property
    def expression_weights(self) -> NDArray[np.float32]:
        """float32 [N]: how much a face counts in the loss of expressions, 0 without votes; the mean of the others is 1.

        A label counts by the power `-balance` of how often it is voted for, and a face by the labels that it got.
        """
        shares = distributions(self.votes)
        often = shares.sum(axis=0, dtype=np.float64)
        weights = shares @ np.where(often > 0, np.maximum(often, 1e-9) ** -self.balance, 0)
        voted = self.votes.any(axis=1)
        return np.asarray(weights / weights[voted].mean() if voted.any() else weights, dtype=np.float32)

    @property
    def majority(self) -> NDArray[np.int64]:
        """int64 [N]: the label with the majority of votes, or -1."""
        return np.where(self.votes.any(axis=1), self.faces.majority, -1)

    def teaches(self, task: Task) -> bool:
        """Return whether any face has a target of this task that is learned."""
        targets = {
            "valence_arousal": self.with_valence_arousal,
            "expression": self.votes,
            "action_units": self.known_units,
        }
        return bool(targets[task].any())


@dataclass(frozen=True, kw_only=True)
class MixedFaces(PreparedFaces):
    """The records of several prepared sets, one set after the other; a target counts where it is learned.

    `info` is that of the first set, with the names of all data sets. What it says of targets is that set's alone.
    """

    sources: tuple[Source, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Relative share of each set in a batch."""
        return tuple(source.share for source in self.sources)

    @property
    def origins(self) -> NDArray[np.int64]:
        """int64 [N]: the position of each record's set among `sources`."""
        return np.repeat(np.arange(len(self.sources)), [len(source.faces) for source in self.sources])

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the sets."""
        return tuple(source.name for source in self.sources)

    def indices(self, split: Split, limit: int | None = None) -> NDArray[np.int64]:
        """See PreparedFaces; `limit` is that of each set."""
        rows = super().indices(split)
        origins = self.origins[rows]
        return np.concatenate([rows[origins == i][:limit] for i in range(len(self.sources))])

    @cached_property  # every batch asks for it
    def expression_weights(self) -> NDArray[np.float32]:
        """See PreparedFaces."""
        return np.concatenate([source.expression_weights for source in self.sources])

    @cached_property  # every batch asks for it
    def known_units(self) -> NDArray[np.bool_]:
        """See PreparedFaces."""
        return np.concatenate([source.known_units for source in self.sources])

    @property
    def with_action_units(self) -> NDArray[np.bool_]:
        """bool [N]: True where any of the `action_units` counts."""
        return np.asarray(self.known_units.any(axis=1))

    @property
    def units_present(self) -> NDArray[np.bool_]:
        """See PreparedFaces."""
        return np.concatenate([source.faces.units_present for source in self.sources])

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """See PreparedFaces."""
        return np.concatenate([source.with_valence_arousal for source in self.sources])

    @property
    def majority(self) -> NDArray[np.int64]:
        """See PreparedFaces."""
        return np.concatenate([source.majority for source in self.sources])


class _Crops:
    """The crops of several sets, one set after the other, which stay on disk until they are used one by one."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return np.asarray(self._parts[part][row - self._starts[part]])


def mix(sources: Sequence[Source]) -> MixedFaces:
    """Return the records of all sources. Raises DatasetError where they do not go together."""
    for one, other in pairwise(sources):
        for name in ("label_set", "alignment", "detector"):
            values = [getattr(source.faces.info, name) for source in (one, other)]
            if values[0] != values[1]:
                raise DatasetError(f"{one.name} and {other.name} differ in {name}: {values[0]} and {values[1]}")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DatasetError(f"two of the sets have the same name: {', '.join(names)}")
    parts = [source.faces for source in sources]

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return MixedFaces(
        info=replace(parts[0].info, dataset="+".join(part.info.dataset for part in parts)),
        # Code that trains reads crops one by one, which is all that _Crops can do.
        crops=cast("NDArray[np.uint8]", _Crops([part.crops for part in parts])),
        names=joined("names"),
        splits=joined("splits"),
        found=joined("found"),
        votes=np.concatenate([source.votes for source in sources]),
        derived=np.concatenate([part.derived & (part.blendshapes is not None) for part in parts]),
        action_units=np.concatenate([source.action_units for source in sources]),
        valence_arousal=joined("valence_arousal"),
        blendshapes=_readings(parts, "blendshapes"),
        landmarks=_readings(parts, "landmarks"),
        sources=tuple(sources),
    )


def _readings(parts: Sequence[PreparedFaces], name: str) -> NDArray[np.float32] | None:
    """Return what the teacher read, joined, with 0 for sets that it did not read; None where it read none."""
    known = [getattr(part, name) for part in parts]
    shape = next((values.shape[1:] for values in known if values is not None), None)
    if shape is None:
        return None
    empty = [np.zeros((len(part), *shape), dtype=np.float32) for part in parts]
    return np.concatenate([zeros if values is None else values for values, zeros in zip(known, empty, strict=True)])
