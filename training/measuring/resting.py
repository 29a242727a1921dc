"""Faces at rest: how far they rise above their own baseline by themselves, from which the limits of changes are fitted.

A rendered set holds sittings: pictures of one person in one pose and light, of which the first is neutral. Others of
the sitting may be neutral, too, and differ by a few degrees, by where the eyes look, and by blinks. These are the same
face at rest, and so is each of them with another exposure, compressed, from a smaller picture, cropped a little beside,
or mirrored. A face that is compared with its baseline in practice is in another picture; the baseline's own picture, a
little changed, differs less, so the two are not pooled: limits hold for each by itself.

Pictures in which other units move are left out. How often a unit rises with another one depends on what people do, and
some units do move together: cheeks with a smile, lips with the jaw. A limit above all of that would follow the mix of
movements in the set and hide slight ones. `training.studies.baseline` tells how often it happens.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, TASKS
from model_core.baseline import Comparison, levels_of
from model_core.calibration import AXES, Calibration, ChangeLimits
from model_core.faces.alignment import shrink
from model_core.faces.geometry import Crop
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.batches import image_batch
from training.data.mirror_images import logits_of
from training.data.perturbations import Perturbation, perturbations
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.measuring.rendered import pictures_of, resting_rows
from training.measuring.scoring import estimator_of

FALSE_ALARMS = 0.05
"""Share of faces at rest whose rise may exceed a limit."""

PERTURBATIONS = ("resolution", "jpeg", "darker", "brighter", "shift", "scale")
"""Changes of a crop, at their lowest strength, that leave a face at rest; it is mirrored as well."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sittings:
    """The sittings of a rendered prepared set of N records."""

    baseline: NDArray[np.int64]
    """int64 [N]: the record of the first picture of each record's sitting, or -1 where no face was found in it."""
    people: NDArray[np.str_]
    """str [N]: the person in each picture."""
    kinds: NDArray[np.str_]
    """str [N]: neutral, single, pair, expression or other."""

    @property
    def neutral(self) -> NDArray[np.bool_]:
        """bool [N]: True where the face is at rest."""
        return np.asarray(self.kinds == "neutral")


def read_sittings(prepared: Path, faces: PreparedFaces) -> Sittings:
    """Return the sittings of the prepared set in a folder. Raises DatasetError where it is not of rendered faces."""
    if not faces.info.rendered:
        raise DatasetError(f"{prepared} does not hold sittings of rendered faces: prepare one with --dataset rendered")
    pictures = pictures_of(prepared, faces.names)
    first = resting_rows(pictures)
    kinds = np.array([picture.kind for picture in pictures])
    usable = (first >= 0) & faces.found[first] & (kinds[first] == "neutral")
    return Sittings(np.where(usable, first, -1), np.array([picture.person for picture in pictures]), kinds)


@dataclass(frozen=True)
class Levels:
    """The levels by which M faces are compared, beside the log-odds of their units."""

    compared: Floats
    """float64 [M, L], as a LevelReader's comparison takes them."""
    log_odds: Floats
    """float64 [M, 12]: the units' calibrated log-odds, or [M, 0] where the network has no units."""


@dataclass(frozen=True)
class LevelReader:
    """Reads the levels of crops, by a network and its calibration."""

    network: AffectNetwork
    input: InputSpec
    calibration: Calibration

    @property
    def comparison(self) -> Comparison:
        """The way in which the levels are compared, with the calibration's limits."""
        tasks = [task for task in TASKS if task in self.network.heads]
        return Comparison.of(tasks, self.calibration, estimator_of(self.network))

    def levels(self, crops: Iterable[Crop], batch_size: int = 64) -> Floats:
        """Return the levels that are compared, float64 [M, L]; see `read`."""
        return self.read(crops, batch_size).compared

    @torch.inference_mode()
    def read(self, crops: Iterable[Crop], batch_size: int = 64) -> Levels:
        """Return the levels of crops, uint8 [S, S, 3]. Raises ValueError if one is not finite."""
        self.network.eval()
        compared = [np.empty((0, self.comparison.width))]
        log_odds = [np.empty((0, len(ACTION_UNITS) if "action_units" in self.network.heads else 0))]
        remaining = iter(crops)
        while batch := list(islice(remaining, batch_size)):
            images = image_batch([shrink(crop, self.input.size) for crop in batch], self.input)
            logits = logits_of(self.network, images, self.input)
            by_task = {task: getattr(logits, task) for task in TASKS if task in self.network.heads}
            outputs = {task: part.double().numpy() for task, part in by_task.items()}
            compared.append(levels_of(outputs, self.calibration))
            if "action_units" in outputs:
                log_odds.append(self.calibration.unit_log_odds(outputs["action_units"]))
        levels = Levels(np.concatenate(compared), np.concatenate(log_odds))
        if not np.isfinite(levels.compared).all() or not np.isfinite(levels.log_odds).all():
            raise ValueError("the network's outputs are not finite: its weights cannot be used")
        return levels


@dataclass(frozen=True)
class Rises:
    """Rises of faces at rest above their baseline."""

    values: Floats
    """float64 [M, K]."""
    other_picture: NDArray[np.bool_]
    """bool [M]: True for another picture than the baseline, False for the baseline's own, a little changed."""


def rises_at_rest(reader: LevelReader, faces: PreparedFaces, sittings: Sittings, split: Split) -> Rises:
    """Return the rises of all faces at rest in a split: other neutral pictures, and all of them a little changed.

    The places and directions of changes are drawn for each record from its position.
    """
    rows = np.flatnonzero((faces.splits == split) & faces.found & sittings.neutral & (sittings.baseline >= 0))
    levels = reader.levels(faces.crops[rows])
    baseline = levels[np.searchsorted(rows, sittings.baseline[rows])]
    is_other = sittings.baseline[rows] != rows
    comparison = reader.comparison
    values = [comparison.compare(baseline, levels).rises[is_other]]
    other_picture = [is_other[is_other]]
    for change in changes_at_rest(faces.info.alignment):
        changed = reader.levels(change(faces.crops[row], np.random.default_rng(row)) for row in rows)
        values.append(comparison.compare(baseline, changed).rises)
        other_picture.append(is_other)
    return Rises(np.concatenate(values), np.concatenate(other_picture))


def changes_at_rest(alignment: str) -> Sequence[Callable[[Crop, np.random.Generator], Crop]]:
    """Return the small changes of a crop with this alignment that leave the face at rest: PERTURBATIONS, and a mirror.

    Each takes a crop, uint8 [S, S, 3], and a generator.
    """
    registry = perturbations(alignment)
    return [_mirrored, *(partial(_slightly, registry[name]) for name in PERTURBATIONS)]


def limits_at_rest(reader: LevelReader, sets: Sequence[tuple[PreparedFaces, Sittings]]) -> ChangeLimits:
    """Return the limits of changes, fitted to the validation people of sets of rendered faces; see `fit_limits`."""
    rises = [rises_at_rest(reader, faces, sittings, "validation") for faces, sittings in sets]
    values, other_picture = (np.concatenate(parts) for parts in zip(*map(astuple, rises), strict=True))
    return fit_limits(Rises(values, other_picture), reader.comparison.names)


def fit_limits(rises: Rises, names: Sequence[str]) -> ChangeLimits:
    """Return the limits that no more than FALSE_ALARMS of the rises at rest exceed; `names` are of their columns.

    They hold for rises in other pictures and in changed ones, each by itself, and are at least 0. Rises of one person
    resemble each other, so the promise is as good as the number of people. Raises ValueError for too few of either.
    """
    kinds = (rises.values[rises.other_picture], rises.values[~rises.other_picture])
    limits = dict(
        zip(names, np.max([_exceeded_by_few(kind) for kind in kinds], axis=0, initial=0).tolist(), strict=True)
    )
    axes = {name: limits[name] for name in AXES if name in limits}
    units = {name: limits[name] for name in ACTION_UNITS if name in limits}
    return ChangeLimits(axes or None, units or None)


def _exceeded_by_few(values: Floats) -> Floats:
    """Return for each column of rises, float64 [M, K], that of rank ceil((M + 1) (1 - FALSE_ALARMS)), float64 [K].

    One more rise from the same source exceeds it in no more than that share (split conformal prediction: Vovk et al.,
    Algorithmic Learning in a Random World, 2005).
    """
    rank = math.ceil((len(values) + 1) * (1 - FALSE_ALARMS))
    if rank > len(values):
        raise ValueError(f"{len(values)} faces at rest are too few for limits of changes: at least 19 are needed")
    return np.asarray(np.sort(values, axis=0)[rank - 1])


def _mirrored(crop: Crop, rng: np.random.Generator) -> Crop:
    return np.ascontiguousarray(crop[:, ::-1])


def _slightly(perturbation: Perturbation, crop: Crop, rng: np.random.Generator) -> Crop:
    return perturbation(crop, 1, rng)
