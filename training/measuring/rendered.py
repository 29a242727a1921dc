"""Measures that need rendered faces: known movements, the same person at rest, and composed expressions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.metrics import auroc, pearson
from training.datasets import DatasetError
from training.datasets.rendered import MANIFEST, PRESENT, RenderedPicture, rendered_pictures
from training.measuring.answers import Answers
from training.measuring.bootstrap import intervals
from training.measuring.matched import measure_matched

UNMOVED = 0.05
"""Largest intensity of a unit that is not moved: nobody's face is quite still, so units at rest are at up to this."""

CLEAR = 0.5
"""Intensity from which on a unit is clearly seen: recall is measured over such faces."""

COMPOSED = 0.4
"""Strength from which on a composed expression must be recognised.

Three quarters of its target are the expression there, and the rest is neutral; below 0.3 neutral has the majority, and
between the two neither answer is wrong.
"""


def pictures_of(prepared: Path, names: NDArray[np.str_]) -> list[RenderedPicture]:
    """Return what is known of the pictures of the records `names`, str [N], of a prepared set of rendered faces.

    Raises DatasetError where the set was prepared without its table, or the table lacks a record.
    """
    by_name = {f"{picture.person}/{picture.file}": picture for picture in rendered_pictures(prepared)}
    missing = [name for name in names.tolist() if name not in by_name]
    if missing:
        raise DatasetError(f"{prepared / MANIFEST} lacks {len(missing)} of {len(names)} records, as {missing[0]}")
    return [by_name[name] for name in names.tolist()]


def people_of(pictures: Sequence[RenderedPicture]) -> NDArray[np.str_]:
    """Return the people of N pictures, str [N]. A counterpart counts as the person whom it resembles."""
    return np.array([picture.original for picture in pictures], dtype=np.str_)


def resting_rows(pictures: Sequence[RenderedPicture]) -> NDArray[np.int64]:
    """Return, for each of N pictures, the row of the first picture of its sitting, int64 [N]; -1 where it is missing.

    That picture shows the same person in the same pose and light at rest.
    """
    first = {picture.sitting: row for row, picture in enumerate(pictures) if _is_first(picture)}
    return np.array([first.get(picture.sitting, -1) for picture in pictures])


def _is_first(picture: RenderedPicture) -> bool:
    return Path(picture.file).stem.endswith("-0")


@dataclass(frozen=True)
class Movements:
    """The movements of N rendered faces beside the answers; the face was found unless stated otherwise."""

    intensities: NDArray[np.float64]
    """float64 [N, 12]: known intensities in [0, 1]."""
    log_odds: NDArray[np.float64]
    """float64 [N, 12]; NaN where the face was not found."""
    changes: NDArray[np.float64]
    """float64 [N, 12]: rises above the same person at rest; NaN where that is unknown, or this face."""
    values: NDArray[np.float64]
    """float64 [N, 12]: the same as answers tell it, in [-1, 1]."""
    intensity_changes: NDArray[np.float64]
    """float64 [N, 12]: known intensities less those of the same person at rest."""
    active: NDArray[np.bool_]
    """bool [N, 12]: True where the probability reaches the unit's threshold."""
    resting: NDArray[np.bool_]
    """bool [N]: True where nothing is moved; the face may be not found."""
    composed: NDArray[np.int64]
    """int64 [N]: the label of an expression that was composed with a strength of at least COMPOSED, or -1."""
    said: NDArray[np.int64]
    """int64 [N]: the most probable label; -1 where the face was not found, or the network knows no expressions."""

    def take(self, index: NDArray[np.int64]) -> "Movements":
        """Return the movements at `index`, int64 [M], which may repeat."""
        return Movements(*(getattr(self, item.name)[index] for item in fields(self)))


def movements_of(answers: Answers, pictures: Sequence[RenderedPicture]) -> Movements:
    """Return the answers for N pictures beside their movements."""
    count = len(answers)
    log_odds = changes = values = np.full((count, len(ACTION_UNITS)), np.nan)
    active = np.zeros(log_odds.shape, dtype=bool)
    rest = resting_rows(pictures)
    if answers.unit_logits is not None and answers.units is not None and answers.unit_levels is not None:
        log_odds = np.where(answers.found[:, None], answers.unit_logits, np.nan)
        levels = np.where(answers.found[:, None], answers.unit_levels, np.nan)
        compared = answers.comparison.compare(levels[rest], levels)
        changes, values = compared.rises, compared.values
        active = answers.found[:, None] & (answers.units >= np.array(answers.thresholds))
    comparable = ((rest >= 0) & (rest != np.arange(count)))[:, None]
    intensities = answers.unit_targets
    said = np.full(count, -1)
    if answers.expression is not None:
        said = np.where(answers.found, answers.expression.argmax(axis=1), -1)
    return Movements(
        intensities=intensities,
        log_odds=log_odds,
        changes=np.where(comparable, changes, np.nan),
        values=np.where(comparable, values, np.nan),
        intensity_changes=intensities - intensities[rest],
        active=active,
        resting=np.array([picture.kind == "neutral" for picture in pictures]),
        composed=np.array([_composed(picture, answers.labels) for picture in pictures]),
        said=said,
    )


def _composed(picture: RenderedPicture, labels: Sequence[str]) -> int:
    clear = picture.kind == "expression" and picture.strength >= COMPOSED
    return labels.index(picture.expression) if clear and picture.expression in labels else -1


def measure_rendered(answers: Answers, pictures: Sequence[RenderedPicture], resamples: int = 0) -> dict[str, Any]:
    """Return the measures of N answers for rendered faces as plain JSON values, with intervals over people.

    `units` and `expressions` are as `unit_measures` and `expression_measures` return them, `matched` as
    `measure_matched` does, and `intervals` has the same keys. An undefined measure is absent.
    """
    movements = movements_of(answers, pictures)
    people = people_of(pictures)

    def measures(index: NDArray[np.int64]) -> dict[str, Any]:
        part = movements.take(index)
        units = unit_measures(part) if answers.units is not None else {}
        expressions = expression_measures(part, answers.labels) if answers.expression is not None else {}
        return {"units": units, "units_mean": _means(units), "expressions": expressions}

    return {
        "people": len(np.unique(people)),
        "resting": int(movements.resting.sum()),
        **measures(np.arange(len(answers))),
        "matched": measure_matched(answers, pictures, resamples),
        "intervals": intervals(measures, len(answers), resamples, clusters=people),
    }


def unit_measures(movements: Movements) -> dict[str, dict[str, float | int]]:
    """Return the measures of each unit over faces that were found.

    * `auroc`: of the log-odds of faces that move the unit, from PRESENT on, against faces that do not (up to UNMOVED);
      faces between the two are left out
    * `auroc_change`: the same of the rise above the same person at rest (see `model_core.baseline`)
    * `pearson_change`: Pearson's r of the change's value with the difference of the intensities, over all faces
    * `recall`: share of the faces with at least CLEAR in which the unit is active
    * `active_at_rest`: share of the faces at rest in which it is
    """
    found = np.isfinite(movements.log_odds).all(axis=1)
    units: dict[str, dict[str, float | int]] = {}
    for i, name in enumerate(ACTION_UNITS):
        intensity = movements.intensities[:, i]
        moved = intensity >= np.float32(PRESENT)
        told = found & (moved | (intensity <= UNMOVED))
        compared = found & np.isfinite(movements.changes[:, i])
        changed = told & compared
        clear = found & (intensity >= CLEAR)
        at_rest = found & movements.resting
        values = {
            "auroc": auroc(movements.log_odds[told, i], moved[told]),
            "auroc_change": auroc(movements.changes[changed, i], moved[changed]),
            "pearson_change": pearson(movements.values[compared, i], movements.intensity_changes[compared, i]),
            "recall": _share(movements.active[clear, i]),
            "active_at_rest": _share(movements.active[at_rest, i]),
        }
        counts = {"moved": int((found & moved).sum()), "clear": int(clear.sum())}
        units[name] = {**counts, **{key: value for key, value in values.items() if not np.isnan(value)}}
    return units


def expression_measures(movements: Movements, labels: Sequence[str]) -> dict[str, Any]:
    """Return the shares of composed expressions and of faces at rest that are called so; a face not found is not.

    `mean_by_class` gives the classes equal weights.
    """
    composed = movements.composed
    shares = {label: _share(movements.said[composed == c] == c) for c, label in enumerate(labels)}
    given = {label: value for label, value in shares.items() if not np.isnan(value)}
    values = {
        "right": _share(movements.said[composed >= 0] == composed[composed >= 0]),
        "mean_by_class": float(np.mean(list(given.values()))) if given else float("nan"),
        "rest_called_neutral": _share(movements.said[movements.resting] == labels.index("neutral")),
    }
    return {
        "count": int((composed >= 0).sum()),
        **{name: value for name, value in values.items() if not np.isnan(value)},
        "right_by_class": given,
        "support": {label: int((composed == labels.index(label)).sum()) for label in given},
    }


def _means(units: dict[str, dict[str, float | int]]) -> dict[str, float]:
    """Return the means over the twelve units of measures that all of them have."""
    names = ("auroc", "auroc_change", "pearson_change", "recall", "active_at_rest")
    whole = [name for name in names if units and all(name in values for values in units.values())]
    return {name: float(np.mean([values[name] for values in units.values()])) for name in whole}


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
