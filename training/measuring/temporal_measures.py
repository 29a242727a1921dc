"""Error, lag and jitter of estimates over simulated tracks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import AffectTarget, Task
from model_core.models import NetworkSpec

METHODS = ("framewise", "causal", "offline", "lstm")

CLEAR_CHANGE = 0.5
"""Lag is measured where the framewise outputs' mean moves at least so far (Euclidean) in a jump."""

_EDGE = 5
"""Frames beside a jump that say where the outputs were before, and at the end of a track where they are after."""


@dataclass(frozen=True)
class Tracks:
    """N tracks of T frames. vectors: float32 [N, T, D]. target: every field [N, T, ...]. starts: int [N], the frame in
    which the change begins."""

    vectors: Tensor
    target: AffectTarget
    starts: NDArray[np.int64]


def jitter(estimates: NDArray[np.float64]) -> float:
    """Mean absolute change from frame to frame of estimates [N, T, D]."""
    return float(np.abs(np.diff(estimates, axis=1)).mean())


def lag_frames(estimates: NDArray[np.float64], framewise: NDArray[np.float64], starts: NDArray[np.int64]) -> float:
    """Mean number of frames after a jump until estimates [N, T, D] have gone half of the framewise ones' way.

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
    """Mean absolute error of estimates [N, T, D] by task."""
    parts = np.split(estimates, np.cumsum(list(spec.widths.values()))[:-1], axis=2)
    wanted: Mapping[Task, Tensor] = {
        "valence_arousal": target.valence_arousal,
        "expression": target.expression,
        "action_units": target.action_units,
    }
    return {
        task: float(np.abs(part - wanted[task].double().numpy()).mean())
        for task, part in zip(spec.widths, parts, strict=True)
    }


def compare(
    estimates: Mapping[str, NDArray[np.float64]],
    framewise: Mapping[str, NDArray[np.float64]],
    tracks: Mapping[str, Tracks],
    spec: NetworkSpec,
) -> dict[str, float]:
    """One method's figures over the kinds of tracks: `changing`, `jumping`, `still`."""
    figures = errors(estimates["changing"], tracks["changing"].target, spec)
    return {
        **{f"error_{task}": value for task, value in figures.items()},
        "lag_frames": lag_frames(estimates["jumping"], framewise["jumping"], tracks["jumping"].starts),
        "jitter": jitter(estimates["still"]),
    }


def render(figures: Mapping[str, Mapping[str, float]]) -> str:
    """A table, a method a row; jitter also as a share of the framewise one."""
    names = list(next(iter(figures.values())))
    lines = [f"{'method':<12}" + "".join(f"{name:>24}" for name in names)]
    lines += [f"{method:<12}" + "".join(f"{row[name]:>24.4f}" for name in names) for method, row in figures.items()]
    plain = figures["framewise"]["jitter"]
    shares = ", ".join(f"{method} {row['jitter'] / plain:.2f}" for method, row in figures.items())
    return "\n".join([*lines, f"jitter over framewise: {shares}"])
