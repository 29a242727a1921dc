"""Plots of reports, as PNG files. Import it only where a plot is asked for, since importing matplotlib is slow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.faces.geometry import Crop
from model_core.metrics import reliability
from training.measuring.answers import Answers

# Two colours of Okabe & Ito's palette, which colour-blind readers can tell apart, with markers and dashes besides.
_BEFORE: dict[str, Any] = {"color": "#D55E00", "marker": "s", "linestyle": "--", "markersize": 4}
_AFTER: dict[str, Any] = {"color": "#0072B2", "marker": "o", "linestyle": "-", "markersize": 4}

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
}

_MIN_BIN = 10
"""A bin with fewer faces is not drawn, since its share is too uncertain."""


def plot_reliability(answers: Answers, folder: Path) -> list[Path]:
    """Plot reliability before and after calibration, as `reliability_expression.png`, `reliability_action_units.png`.

    Creates `folder`, and returns the files written; a task that was not measured has none.
    """
    written = []
    seen = answers.found & (answers.majority >= 0)
    if answers.expression is not None and answers.expression_plain is not None and seen.any():
        with rc_context(_STYLE):
            figure = _expressions((answers.expression_plain[seen], answers.expression[seen]), answers.majority[seen])
            written.append(_save(figure, folder, "reliability_expression.png"))
    if answers.units is not None and answers.units_plain is not None and answers.derived.any():
        kept = answers.derived
        with rc_context(_STYLE):
            figure = _units((answers.units_plain[kept], answers.units[kept]), answers.units_present[kept])
            written.append(_save(figure, folder, "reliability_action_units.png"))
    return written


def plot_robustness(study: Mapping[str, Any], folder: Path) -> list[Path]:
    """Plot accuracy and calibration error over the levels of each perturbation of a study, as `robustness.png`."""
    curves, clean = study["perturbations"], study["clean"]
    with rc_context(_STYLE):
        figure, axes = _grid(len(curves), columns=4, height=2.6)
        for axis, (name, curve) in zip(axes, curves.items(), strict=True):
            ticks = ["clean", *(f"{level:g}" for level in curve["levels"])]
            axis.plot(range(len(ticks)), [clean["accuracy"], *curve["accuracy"]], label="accuracy", **_AFTER)
            axis.plot(range(len(ticks)), [clean["ece"], *curve["ece"]], label="calibration error", **_BEFORE)
            axis.set(title=name.replace("_", " "), xlabel=curve["unit"], ylim=(0, 1))
            axis.set_xticks(range(len(ticks)), ticks, fontsize=9)
        _finish(figure, axes, "share of faces")
        return [_save(figure, folder, "robustness.png")]


def plot_failures(titled: Sequence[tuple[Crop, str]], folder: Path) -> list[Path]:
    """Plot crops, uint8 [S, S, 3] RGB, each under its title, as `failures.png`."""
    with rc_context({**_STYLE, "axes.grid": False, "axes.titlesize": 9}):
        figure, axes = _grid(len(titled), columns=min(6, len(titled)), height=2.0, width=1.7)
        for axis, (crop, title) in zip(axes, titled, strict=True):
            axis.imshow(crop)
            axis.set(title=title)
            axis.set_axis_off()
        return [_save(figure, folder, "failures.png")]


def _expressions(probabilities: Sequence[NDArray[np.float64]], actual: NDArray[np.int64]) -> Figure:
    figure, (axis,) = _grid(1, columns=1, height=4.5, width=4.5)
    for values, label, style in zip(probabilities, ("before", "calibrated"), (_BEFORE, _AFTER), strict=True):
        _curve(axis, values.max(axis=1), values.argmax(axis=1) == actual, label, style)
    axis.set(xlabel="probability of the top expression", title=f"expressions, {len(actual)} faces")
    _finish(figure, [axis], "share that is right")
    return figure


def _units(probabilities: Sequence[NDArray[np.float64]], presence: NDArray[np.bool_]) -> Figure:
    figure, axes = _grid(len(ACTION_UNITS), columns=4, height=2.6)
    for i, (axis, name) in enumerate(zip(axes, ACTION_UNITS, strict=True)):
        present = presence[:, i]
        for values, label, style in zip(probabilities, ("before", "calibrated"), (_BEFORE, _AFTER), strict=True):
            _curve(axis, values[:, i], present, label, style)
        axis.set(title=f"{name}, {int(present.sum())} present", xlabel="probability")
    _finish(figure, axes, "share present")
    return figure


def _curve(
    axis: Axes, confidence: NDArray[np.float64], outcome: NDArray[np.bool_], label: str, style: Mapping[str, Any]
) -> None:
    mean, share, count = reliability(confidence, outcome.astype(np.float64))
    drawn = count >= _MIN_BIN
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axis.plot(mean[drawn], share[drawn], label=label, **style)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _grid(count: int, *, columns: int, height: float, width: float = 2.8) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` axes, with their size in inches. It is made without pyplot, which would keep state."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _finish(figure: Figure, axes: Sequence[Axes], ylabel: str) -> None:
    for axis in axes:
        if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.set_ylabel(ylabel)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _save(figure: Figure, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name)
    return folder / name
