"""Error, lag and jitter of estimates over simulated tracks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget, Task
from model_core.models.spec import NetworkSpec

CLEAR_CHANGE = 0.5
"""Lag is measured where the mean of the framewise outputs moves at least this far (Euclidean) in a jump."""

_EDGE = 5
"""Frames before a jump, and at the end of a track, over which the outputs before and after it are averaged."""


@dataclass(frozen=True)
class Tracks:
    """N simulated tracks of T frames."""

    vectors: Tensor
    """float32 [N, T, D]: the backbone's features."""
    target: AffectTarget
    """Fields of shape [N, T, ...]."""
    starts: NDArray[np.int64]
    """int64 [N]: the frame in which the change begins."""


def jitter(estimates: NDArray[np.float64]) -> float:
    """Return the mean absolute change from frame to frame of estimates [N, T, D]."""
    return float(np.abs(np.diff(estimates, axis=1)).mean())


def lag_frames(estimates: NDArray[np.float64], framewise: NDArray[np.float64], starts: NDArray[np.int64]) -> float:
    """Return the mean number of frames until estimates [N, T, D] have moved half as far as the framewise ones jump.

    NaN where no track changes clearly.
    """
    lags = []
    for track, plain, start in zip(estimates, framewise, starts, strict=True):
        before, after = plain[start - _EDGE : start].mean(axis=0), plain[-_EDGE:].mean(axis=0)
        way = after - before
        if np.linalg.norm(way) < CLEAR_CHANGE:
            continue
        progress = (track[start:] - before) @ way / (way @ way)
        lags.append(int(np.argmax(progress >= 0.5)) if (progress >= 0.5).any() else len(progress))
    return float(np.mean(lags)) if lags else float("nan")


def errors(estimates: NDArray[np.float64], target: AffectTarget, spec: NetworkSpec) -> dict[str, float]:
    """Return the mean absolute error of estimates [N, T, D] by task, over the targets that are known.

    NaN for a task without any.
    """
    parts = np.split(estimates, np.cumsum(list(spec.widths.values()))[:-1], axis=2)
    wanted: Mapping[Task, tuple[Tensor, Tensor]] = {
        "valence_arousal": (target.valence_arousal, target.valence_arousal_mask.unsqueeze(-1)),
        "expression": (target.expression, target.expression_mask.unsqueeze(-1)),
        "action_units": (target.action_units, target.action_units_mask),
    }
    return {task: _error(part, *wanted[task]) for task, part in zip(spec.widths, parts, strict=True)}


def _error(estimates: NDArray[np.float64], values: Tensor, mask: Tensor) -> float:
    known = (mask > 0).expand(values.shape).numpy()
    return float(np.abs(estimates - values.double().numpy())[known].mean()) if known.any() else float("nan")


def compare(
    estimates: Mapping[str, NDArray[np.float64]],
    framewise: Mapping[str, NDArray[np.float64]],
    tracks: Mapping[str, Tracks],
    spec: NetworkSpec,
) -> dict[str, float]:
    """Return one method's figures: errors on `changing` tracks, lag on `jumping` ones, jitter on `still` ones."""
    figures = errors(estimates["changing"], tracks["changing"].target, spec)
    return {
        **{f"error_{task}": value for task, value in figures.items()},
        "lag_frames": lag_frames(estimates["jumping"], framewise["jumping"], tracks["jumping"].starts),
        "jitter": jitter(estimates["still"]),
    }


def render(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as a table with a row for each method, and jitter as a share of the framewise one."""
    names = list(next(iter(figures.values())))
    lines = [f"{'method':<12}" + "".join(f"{name:>24}" for name in names)]
    lines += [f"{method:<12}" + "".join(f"{row[name]:>24.4f}" for name in names) for method, row in figures.items()]
    plain = figures["framewise"]["jitter"]
    shares = ", ".join(f"{method} {row['jitter'] / plain:.2f}" for method, row in figures.items())
    return "\n".join([*lines, f"jitter over framewise: {shares}"])
