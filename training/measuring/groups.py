"""Measures by group of faces, such as an age band, for sets whose owner knows the groups."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import DatasetError
from training.measuring.answers import Answers
from training.measuring.bootstrap import intervals
from training.measuring.report import MIN_CLASS_SIZE, Scope, measures, whole_scope, with_unit_targets

MIN_GROUP_SIZE = 30
"""A measure is given for a group only if it rests on at least this many faces."""


def read_groups(path: Path, column: str, names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the value of `column` for each of the records `names`, str [N], from a CSV file with a header.

    The file's column `name` holds the names of records; rows of other records are ignored. Raises DatasetError where
    the file, a column or a record is missing, or a name occurs twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            columns = list(table.fieldnames or ())
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a readable CSV file ({error})") from error
    for wanted in ("name", column):
        if wanted not in columns:
            raise DatasetError(f"{path} has no column {wanted!r}; it has: {', '.join(columns) or 'none'}")
    values: dict[str, str] = {}
    for row in rows:
        if row["name"] in values:
            raise DatasetError(f"{path} names {row['name']} twice")
        values[row["name"]] = row[column] or ""
    missing = [name for name in names.tolist() if name not in values]
    if missing:
        raise DatasetError(f"{path} lacks {len(missing)} of {len(names)} records, the first is {missing[0]}")
    return np.array([values[name] for name in names.tolist()], dtype=np.str_)


def measure_groups(
    answers: Answers, column: str, groups: NDArray[np.str_], resamples: int = 0, people: NDArray[Any] | None = None
) -> dict[str, Any]:
    """Return the measures of each of the `groups`, str [N], of N answers, as plain JSON values.

    Macro F1 and mean AUROC are over the classes and the units with enough faces in the whole sample, so that all groups
    are measured alike; they are absent where a group lacks one of these. Measures that rest on fewer than
    MIN_GROUP_SIZE faces are absent, too. With `people`, [N], intervals are over these instead of faces.
    """
    whole = whole_scope(answers)
    classes = whole.classes.get(f"macro_f1_at_least_{MIN_CLASS_SIZE}", ())
    scope = Scope({"macro_f1": classes} if classes else {}, whole.units)
    rows = {str(name): np.flatnonzero(groups == name) for name in np.unique(groups)}
    return {
        "column": column,
        "minimum": MIN_GROUP_SIZE,
        "classes": [answers.labels[c] for c in classes],
        "units": list(scope.units),
        "values": {
            name: _group(answers.take(each), scope, resamples, None if people is None else people[each])
            for name, each in rows.items()
        },
    }


def _group(answers: Answers, scope: Scope, resamples: int, people: NDArray[Any] | None) -> dict[str, Any]:
    labelled = answers.majority[answers.majority >= 0]
    counts = {"count": len(answers), "with_majority": len(labelled), **with_unit_targets(answers)}
    given: list[tuple[str, str]] = []  # (task, measure)
    if len(labelled) >= MIN_GROUP_SIZE:
        given += [("expression", "accuracy")]
        if np.isin(scope.classes.get("macro_f1", ()), labelled).all():
            given += [("expression", "macro_f1")]
    if answers.with_valence_arousal.sum() >= MIN_GROUP_SIZE:
        given += [("valence_arousal", "ccc_valence"), ("valence_arousal", "ccc_arousal")]
    if answers.derived.sum() >= MIN_GROUP_SIZE:
        given += [("action_units_mean", "auroc")]
    if not given:
        return counts

    def given_measures(index: NDArray[np.int64]) -> dict[str, Any]:
        tasks = measures(answers.take(index), scope)
        return {name: tasks[task][name] for task, name in given if name in tasks[task]}

    values = given_measures(np.arange(len(answers)))
    return {**counts, **values, "intervals": intervals(given_measures, len(answers), resamples, clusters=people)}
