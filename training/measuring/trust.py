"""Notes on how far each action unit can be trusted, from the reports of `training.evaluate`."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_core.affect import ACTION_UNITS, Reference
from model_core.bundles.manifest import UnitNote

LEAST_AUROC = 0.8
"""AUROC on rendered faces from which on these bear a unit out: four in five pairs of faces are in the right order.

Below it, the unit may still repeat its teacher.
"""

LEAST_R = 0.7
"""Correlation with the teacher from which on a unit repeats it: half of the variance is shared."""


def unit_notes(
    reports: Sequence[Mapping[str, Any]], references: Mapping[str, Reference] | None = None
) -> dict[str, UnitNote] | None:
    """Return a note for each unit from the reports on several sets, or None where there is nothing to note.

    A unit is validated by rendered faces from LEAST_AUROC on, else by the teacher from a correlation of LEAST_R on,
    else by none. Its figures are of the faces that bear it out; where none do, of rendered ones, or else of those that
    the teacher read; those of changes are of rendered ones. `references` has the origin of each unit's targets, where
    units differ in that.
    """
    measured = [report for report in reports if report.get("action_units") and "faces" in report]
    if not measured and references is None:
        return None
    rendered: dict[str, Mapping[str, Any]] = {}
    read: dict[str, Mapping[str, Any]] = {}
    changes: dict[str, Mapping[str, Any]] = {}
    for report in measured:
        if "with_known_action_units" in report["faces"]:
            rendered |= _figures(report)
            changes |= _of_changes(report)
        else:
            read |= _figures(report)
    references = references or {}
    return {
        name: _note(rendered.get(name), read.get(name), reference=references.get(name), **changes.get(name, {}))
        for name in ACTION_UNITS
    }


def _figures(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return `r` and `auroc` of each unit, on rendered faces of moved against unmoved ones."""
    contrasts = report.get("rendered", {}).get("units", {})
    figures: dict[str, Mapping[str, Any]] = {}
    for name, unit in report["action_units"].items():
        auroc = contrasts.get(name, unit).get("auroc")
        figures[name] = {"r": unit.get("pearson"), "auroc": auroc}
    return figures


def _of_changes(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return `change_r` and `change_auroc` of each unit of a report on rendered faces."""
    units = report.get("rendered", {}).get("units", {})
    return {
        name: {"change_r": unit.get("pearson_change"), "change_auroc": unit.get("auroc_change")}
        for name, unit in units.items()
    }


def _note(rendered: Mapping[str, Any] | None, read: Mapping[str, Any] | None, **known: Any) -> UnitNote:
    if rendered and (rendered["auroc"] or 0) >= LEAST_AUROC:
        return UnitNote("rendered", **rendered, **known)
    if read and (read["r"] or 0) >= LEAST_R:
        return UnitNote("teacher", **read, **known)
    return UnitNote("none", **(rendered or read or {}), **known)
