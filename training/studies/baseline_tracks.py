"""Simulated tracks of rendered people who are at rest, move, and rest again: what each kind of baseline gains on them.

A track dissolves from the neutral picture of a sitting into another one and back, and its units with it; see
`training.studies.simulated`, whose motion, noise and occlusions it has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.affect import ACTION_UNITS
from model_core.calibration import sigmoid
from model_core.metrics import auroc
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import Split
from training.datasets.rendered import PRESENT
from training.measuring.resting import LevelReader, Sittings
from training.studies.simulated import FRAME_RATE, Motion, ramp, simulate

STRONG = 0.5
"""Intensity from which on a unit should be told as risen."""

ABSENT = 0.05
"""Intensity below which a unit does not move; nobody at rest is quite still."""

FRAMES = 80
"""Frames of a track: eight seconds."""

REST = (15, 30)
"""Fewest and most frames at rest before the movement."""

RAMP = (3, 10)
"""Fewest and most frames of the movement's onset, and of its offset."""

HOLD = (5, 45)
"""Fewest and most frames in which the movement is held."""

FIRST_S = 1.0
"""Seconds of a track that are taken for its baseline."""

QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Quantiles of a track that are tried for its baseline."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RestingTracks:
    """N tracks of T frames."""

    levels: Floats
    """float64 [N, T, L]."""
    log_odds: Floats
    """float64 [N, T, 12]: of the units."""
    picture: Floats
    """float64 [N, L]: levels of the neutral pictures that the tracks begin with."""
    mix: Floats
    """float64 [N, T]: each frame's share of the movement."""
    units: Floats
    """float64 [N, T, 12]: intensities."""


def movement(rng: np.random.Generator) -> Floats:
    """Return each frame's share of a movement that comes and goes, float64 [FRAMES] in [0, 1]."""
    start, onset, hold, offset = (int(rng.integers(low, high + 1)) for low, high in (REST, RAMP, HOLD, RAMP))
    return ramp(FRAMES, start, onset) - ramp(FRAMES, start + onset + hold, offset)


def make_tracks(
    reader: LevelReader, faces: PreparedFaces, sittings: Sittings, split: Split, count: int, seed: int = 0
) -> RestingTracks:
    """Return `count` tracks, each of a random moving picture of a split. Raises DatasetError where there is none."""
    rng = np.random.default_rng(seed)
    moving = np.flatnonzero((faces.splits == split) & faces.found & ~sittings.neutral & (sittings.baseline >= 0))
    if not len(moving):
        raise DatasetError(f"no picture of {split} shows a movement beside a neutral face")
    chosen = rng.choice(moving, count)
    at_rest = sittings.baseline[chosen]
    mixes = np.stack([movement(rng) for _ in chosen])
    pairs = zip(at_rest, chosen, mixes, strict=True)
    read = [
        reader.read(simulate(faces.crops[first], faces.crops[second], mix, Motion(), rng))
        for first, second, mix in tqdm(pairs, total=count, desc="tracks", unit="track")
    ]
    units = faces.action_units.astype(np.float64)
    blended = (1 - mixes)[..., None] * units[at_rest][:, None] + mixes[..., None] * units[chosen][:, None]
    levels, log_odds = np.stack([each.compared for each in read]), np.stack([each.log_odds for each in read])
    return RestingTracks(levels, log_odds, reader.levels(faces.crops[at_rest]), mixes, blended)


def measure_tracks(reader: LevelReader, tracks: RestingTracks) -> dict[str, dict[str, float]]:
    """Return figures for each kind of baseline, as means over units. The reader must have limits of units.

    `auroc` is over the frames of all tracks, of a unit present from PRESENT on against one below ABSENT; `found` the
    share of frames from STRONG on, and `at_rest` that of frames before and after the movement, that are told as risen;
    without a baseline as active.
    """
    figures = {"none": _without(reader, tracks)}
    comparison = reader.comparison
    first = tracks.levels[:, : round(FIRST_S * FRAME_RATE)].mean(axis=1)
    rises = {
        "picture": comparison.compare(tracks.picture[:, None], tracks.levels).rises,
        "first second": comparison.compare(first[:, None], tracks.levels).rises,
    }
    for quantile in QUANTILES:
        rises[f"auto {quantile:g}"] = np.stack(
            [comparison.compare_in_track(track, quantile).rises for track in tracks.levels]
        )
    limits = [comparison.limits[unit] for unit in ACTION_UNITS]
    columns = [comparison.names.index(unit) for unit in ACTION_UNITS]
    for name, of_all in rises.items():
        of_units = of_all[..., columns]
        figures[name] = _figures(tracks, of_units, of_units > limits)
    return figures


def _without(reader: LevelReader, tracks: RestingTracks) -> dict[str, float]:
    thresholds = [reader.calibration.unit(unit).threshold for unit in ACTION_UNITS]
    return _figures(tracks, tracks.log_odds, sigmoid(tracks.log_odds) >= thresholds)


def _figures(tracks: RestingTracks, scores: Floats, told: NDArray[np.bool_]) -> dict[str, float]:
    """Return the means over units for scores and decisions, both [N, T, 12]."""
    rows = []
    for place in range(len(ACTION_UNITS)):
        known = tracks.units[..., place]
        clear = (known >= PRESENT) | (known < ABSENT)
        rows.append(
            {
                "auroc": auroc(scores[..., place][clear], known[clear] >= PRESENT),
                "found": share(told[..., place][known >= STRONG]),
                "at_rest": share(told[..., place][(tracks.mix == 0) & (known < ABSENT)]),
            }
        )
    return {name: mean_defined([row[name] for row in rows]) for name in rows[0]}


def share(told: NDArray[np.bool_]) -> float:
    """Return the share of True among bool [M]; NaN where M is 0."""
    return float(told.mean()) if told.size else math.nan


def mean_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
