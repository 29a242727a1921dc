"""Differences between people who differ in skin, sex or age only, and do the same: rendered people and counterparts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS
from model_core.calibration import AXES
from training.datasets.rendered import RenderedPicture
from training.measuring.answers import Answers
from training.measuring.bootstrap import intervals

Attribute: TypeAlias = Literal["skin", "sex", "age"]

DIRECTIONS: dict[Attribute, str] = {
    "skin": "darker less lighter skin",
    "sex": "male less female",
    "age": "older less younger",
}
"""The sign of each attribute's differences."""

_TONES = ("light", "medium", "dark")


@dataclass(frozen=True)
class Pair:
    """Two pictures of the same movement, pose and light, whose people differ in one attribute."""

    attribute: Attribute
    person: str
    """The original person."""
    higher: int
    """Row of the picture of the darker, male or older person."""
    lower: int
    """Row of the other picture, whose answers are subtracted."""


def pairs_of(pictures: Sequence[RenderedPicture]) -> list[Pair]:
    """Return the pairs among N pictures: those at the same place in the sittings of a person and of its counterpart.

    A counterpart's sitting repeats the one before it, which is its original's. Where that is not among the pictures,
    its pictures have no pairs.
    """
    rows = {(picture.sitting, _place(picture)): row for row, picture in enumerate(pictures)}
    pairs = []
    for row, picture in enumerate(pictures):
        other_row = rows.get((picture.sitting - 1, _place(picture)))
        if picture.person == picture.original or other_row is None:
            continue
        other = pictures[other_row]
        if other.person == picture.original and (other.kind, other.strength) == (picture.kind, picture.strength):
            attribute, rises = _difference(picture, other)
            ordered = (row, other_row) if rises else (other_row, row)
            pairs.append(Pair(attribute, picture.original, *ordered))
    return pairs


def _place(picture: RenderedPicture) -> str:
    return Path(picture.file).stem.rpartition("-")[2]


def _difference(picture: RenderedPicture, other: RenderedPicture) -> tuple[Attribute, bool]:
    """Return the attribute in which two people differ, and whether the first is the darker, male or older one."""
    if picture.tone != other.tone:
        return "skin", _TONES.index(picture.tone) > _TONES.index(other.tone)
    if picture.sex != other.sex:
        return "sex", picture.sex == "male"
    return "age", picture.age > other.age


def measure_matched(answers: Answers, pictures: Sequence[RenderedPicture], resamples: int = 0) -> dict[str, Any]:
    """Return the mean differences of N answers between matched people by attribute, as plain JSON values.

    Each has the numbers of `pairs` whose faces were found and of `people`, the mean `differences` of every
    unit's probability, of valence and of arousal, their 95 % `intervals` over people, and the unit with the largest
    absolute one, as `largest_unit`.
    """
    values = _values(answers)
    result: dict[str, Any] = {}
    pairs = [pair for pair in pairs_of(pictures) if answers.found[pair.higher] and answers.found[pair.lower]]
    for attribute in DIRECTIONS:
        own = [pair for pair in pairs if pair.attribute == attribute]
        if not own or not values:
            continue
        people = np.array([pair.person for pair in own])
        higher = [pair.higher for pair in own]
        lower = [pair.lower for pair in own]
        differences = {name: column[higher] - column[lower] for name, column in values.items()}
        means = _means(differences)
        result[attribute] = {
            "pairs": len(own),
            "people": len(np.unique(people)),
            "differences": means,
            **_largest(means),
            "intervals": _over_people(differences, people, resamples),
        }
    return result


def _values(answers: Answers) -> dict[str, NDArray[np.float64]]:
    """Return the values that are compared by name, each float64 [N]."""
    columns: dict[str, NDArray[np.float64]] = {}
    if answers.units is not None:
        columns |= {name: answers.units[:, i] for i, name in enumerate(ACTION_UNITS)}
    if answers.valence_arousal is not None:
        columns |= {name: answers.valence_arousal[:, i] for i, name in enumerate(AXES)}
    return columns


def _means(differences: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in differences.items()}


def _largest(means: dict[str, float]) -> dict[str, Any]:
    units = {name: abs(value) for name, value in means.items() if name in ACTION_UNITS}
    if not units:
        return {}
    name = max(units, key=lambda unit: units[unit])
    return {"largest_unit": {"name": name, "difference": units[name]}}


def _over_people(
    differences: dict[str, NDArray[np.float64]], people: NDArray[np.str_], resamples: int
) -> dict[str, Any]:
    def means(index: NDArray[np.int64]) -> dict[str, float]:
        return _means({name: values[index] for name, values in differences.items()})

    return intervals(means, len(people), resamples, clusters=people)
