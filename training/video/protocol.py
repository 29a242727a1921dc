"""The ABAW challenge's measures, pooled over all labelled frames, with intervals over videos.

Source: arXiv 2503.12260, section 3. Valence-arousal: P = (CCC_v + CCC_a) / 2. Expressions: P = macro F1 over all
classes. Action units: P = mean F1 of the positive class over the twelve. A masked entry takes no part, whatever stands
there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, LABEL_SETS, LEARNED_TASKS, Task
from model_core.calibration import AXES
from model_core.metrics import binary_f1, ccc
from training.measuring.bootstrap import intervals
from training.video.predictions import Pooled, ProtocolError, SequencePredictions, pool
from training.video.thresholds import Thresholds

_OfFrames: TypeAlias = Callable[[NDArray[np.int64]], dict[str, Any]]
"""The measures of the frames at the given positions, with repetition."""

_OfTask: TypeAlias = Callable[[Pooled, Thresholds | None, Sequence[str]], tuple[_OfFrames, dict[str, Any]]]
"""The measures of a task, and the counts that do not depend on the resample, from what is pooled and `measure` got."""


@dataclass(frozen=True)
class Measured:
    """Plain JSON values by task; a task without predictions or references is absent.

    valence_arousal: `p_va`, `ccc_valence`, `ccc_arousal`. expression: `p_expr`, `f1` and `support` by label.
    action_units: `p_au` and `f1` by unit at 0.5, `p_au_tuned` and `f1_tuned` at the thresholds, `positives` by unit; a
    unit without any labelled frame is absent, and then so are the means over the twelve. All: `frames`, `videos`.
    intervals: [low, high] with 95 % coverage, at the same keys as the measures.
    """

    measures: dict[Task, dict[str, Any]]
    intervals: dict[Task, dict[str, Any]]


def measure(
    predictions: Sequence[SequencePredictions],
    thresholds: Thresholds | None = None,
    resamples: int = 0,
    labels: Sequence[str] = LABEL_SETS["abaw"],
    seed: int = 0,
) -> Measured:
    """Measure every task that the predictions cover; with `resamples`, also bootstrap intervals over the videos.

    A resample draws, for each task, as many of the videos that have references for it, each with all its frames and
    persons. The order of `predictions` changes nothing. Raises ProtocolError for `thresholds` that were tuned on a
    video among them, for labels that do not fit, and as `pool` does.
    """
    if thresholds is not None:
        both = sorted({each.video for each in predictions} & set(thresholds.tuned_on))
        if both:
            raise ProtocolError(f"the thresholds were tuned on {len(both)} of the videos to report on, as {both[0]}")
    measures: dict[Task, dict[str, Any]] = {}
    within: dict[Task, dict[str, Any]] = {}
    for task in LEARNED_TASKS:
        pooled = pool(predictions, task)
        if pooled is None:
            continue
        of_frames, counts = _TASKS[task](pooled, thresholds, labels)
        counts |= {"frames": len(pooled.values), "videos": pooled.videos}
        measures[task] = of_frames(np.arange(len(pooled.values))) | counts
        within[task] = intervals(_of_videos(of_frames, pooled), pooled.videos, _enough(pooled) * resamples, seed)
    return Measured(measures, within)


def _enough(pooled: Pooled) -> bool:
    """One video, drawn again and again, is always the same: it has no interval."""
    return pooled.videos > 1


def _of_videos(of_frames: _OfFrames, pooled: Pooled) -> _OfFrames:
    return lambda videos: of_frames(pooled.frames(videos))


def _valence_arousal(
    pooled: Pooled, thresholds: Thresholds | None, labels: Sequence[str]
) -> tuple[_OfFrames, dict[str, Any]]:
    # Columns in one piece, here and below: every measure runs along them, a thousand times for the intervals.
    estimates, targets = (np.ascontiguousarray(values.T) for values in (pooled.values, pooled.targets))

    def of_frames(index: NDArray[np.int64]) -> dict[str, Any]:
        axes = [ccc(estimates[i][index], targets[i][index]) for i in range(len(AXES))]
        return {"p_va": float(np.mean(axes)), **{f"ccc_{name}": axis for name, axis in zip(AXES, axes, strict=True)}}

    return of_frames, {}


def _expression(
    pooled: Pooled, thresholds: Thresholds | None, labels: Sequence[str]
) -> tuple[_OfFrames, dict[str, Any]]:
    if pooled.targets.shape[1] != len(labels):
        raise ProtocolError(f"the targets are of {pooled.targets.shape[1]} expressions, not of {', '.join(labels)}")
    predicted, actual = pooled.values.argmax(axis=1), pooled.targets.argmax(axis=1)

    def of_frames(index: NDArray[np.int64]) -> dict[str, Any]:
        chosen, right = predicted[index], actual[index]
        f1 = {label: binary_f1(chosen == c, right == c) for c, label in enumerate(labels)}
        return {"p_expr": float(np.mean(list(f1.values()))), "f1": f1}

    support = np.bincount(actual, minlength=len(labels)).tolist()
    return of_frames, {"support": dict(zip(labels, support, strict=True))}


def _action_units(
    pooled: Pooled, thresholds: Thresholds | None, labels: Sequence[str]
) -> tuple[_OfFrames, dict[str, Any]]:
    # F1 does not look at true negatives, so an entry that does not count may be one.
    mask = np.ascontiguousarray(pooled.mask.T)
    actual = (pooled.targets.T >= 0.5) & mask
    units = [(i, name) for i, name in enumerate(ACTION_UNITS) if mask[i].any()]
    decisions = {"": (pooled.values.T >= 0.5) & mask}
    if thresholds is not None:
        limits = np.array(list(thresholds.units.values()))
        decisions["_tuned"] = (limits[:, None] <= pooled.values.T) & mask

    def of_frames(index: NDArray[np.int64]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for suffix, active in decisions.items():
            f1 = {name: binary_f1(active[i][index], actual[i][index]) for i, name in units}
            if len(f1) == len(ACTION_UNITS):
                values[f"p_au{suffix}"] = float(np.mean(list(f1.values())))
            values[f"f1{suffix}"] = f1
        return values

    return of_frames, {"positives": {name: int(actual[i].sum()) for i, name in units}}


_TASKS: Mapping[Task, _OfTask] = {
    "valence_arousal": _valence_arousal,
    "expression": _expression,
    "action_units": _action_units,
}
