"""Measures by group of faces, such as an age band, for sets whose owner knows the groups."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import DatasetError
from training.measuring.answers import Answers
from training.measuring.bootstrap import intervals
from training.measuring.report import MIN_CLASS_SIZE, Scope, measures, whole_scope

MIN_GROUP_SIZE = 30
"""A number is given for a group only if it rests on at least so many faces."""


def read_groups(path: Path, column: str, names: NDArray[np.str_]) -> NDArray[np.str_]:
    """str [N]: the value of `column` for each of the N prepared records' `names`, from a CSV file with a header.

    Its column `name` holds the records' names; rows of other records are passed over. Raises DatasetError where the
    file, a column or a record is missing, or a name stands twice.
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


def measure_groups(answers: Answers, column: str, groups: NDArray[np.str_], resamples: int = 0) -> dict[str, Any]:
    """The measures of each of the `groups`, str [N], of N answers, as plain JSON values.

    Macro F1 and mean AUROC are over the classes and the units with enough faces in the whole sample, so that all groups
    are measured alike; they are absent where a group lacks one. So is what rests on fewer than MIN_GROUP_SIZE faces.
    """
    whole = whole_scope(answers)
    classes = whole.classes.get(f"macro_f1_at_least_{MIN_CLASS_SIZE}", ())
    scope = Scope({"macro_f1": classes} if classes else {}, whole.units)
    parts = {str(name): answers.take(np.flatnonzero(groups == name)) for name in np.unique(groups)}
    return {
        "column": column,
        "minimum": MIN_GROUP_SIZE,
        "classes": [answers.labels[c] for c in classes],
        "units": list(scope.units),
        "values": {name: _group(part, scope, resamples) for name, part in parts.items()},
    }


def _group(answers: Answers, scope: Scope, resamples: int) -> dict[str, Any]:
    labelled = answers.majority[answers.majority >= 0]
    counts = {"count": len(answers), "with_majority": len(labelled), "with_derived_targets": int(answers.derived.sum())}
    names = {"accuracy"} if len(labelled) >= MIN_GROUP_SIZE else set()
    if names and np.isin(scope.classes.get("macro_f1", ()), labelled).all():
        names |= {"macro_f1"}
    if answers.derived.sum() >= MIN_GROUP_SIZE:
        names |= {"auroc"}
    if answers.with_valence_arousal.sum() >= MIN_GROUP_SIZE:
        names |= {"ccc_valence", "ccc_arousal"}
    if not names:
        return counts

    def numbers(index: NDArray[np.int64]) -> dict[str, Any]:
        tasks = measures(answers.take(index), scope)
        flat = tasks["expression"] | tasks["valence_arousal"] | tasks["action_units_mean"]
        return {name: value for name, value in flat.items() if name in names}

    values = numbers(np.arange(len(answers)))
    return {**counts, **values, "intervals": intervals(numbers, len(answers), resamples)}
